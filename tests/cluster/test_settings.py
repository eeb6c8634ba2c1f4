"""What is impossible is refused before any work."""

import pytest

from mimicmotion.animation import uses_workers
from mimicmotion.commands import run_command
from mimicmotion.config import load_config
from mimicmotion.errors import UsageError


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["cluster.workers=0"], "auto or a number from 1"),
        (["cluster.workers=-2"], "auto or a number from 1"),
        (["cluster.workers=1.5"], "auto or a number from 1"),
        (["cluster.workers=many"], "auto or a number from 1"),
        (["cluster.workers=2", "cluster.address=node1"], "host:port"),
        (["cluster.workers=2", "cluster.address='ray://node1:10001'"], "host:port"),
        (["cluster.workers=2", "cluster.address='node1:99999'"], "host:port"),
        (["cluster.workers=2", "cluster.gpus_per_worker=1.5"], "whole number"),
        (["cluster.workers=2", "cluster.gpus_per_worker=-1"], "0 or more"),
        (["cluster.workers=2", "cluster.gpus_per_worker=1", "runtime.device=cpu"], "uses none"),
        (["cluster.workers=2", "cluster.gpus_per_worker=0", "runtime.device=cuda"], "needs one"),
        (["cluster.workers=2", "runtime.device='cuda:1'"], "Ray chooses"),
        (["cluster.workers=2", "latent_steps.folder=steps"], "record no steps"),
        (["cluster.attempts=0"], "1 or more"),
        (["cluster.cpus_per_worker=0"], "1 or more"),
        (["cluster.item_timeout=0"], "0.001 or more"),
        (["cluster.start_timeout=.nan"], "must be"),
    ],
)
def test_impossible_settings_are_refused(settings, told):
    with pytest.raises(UsageError, match=told):
        load_config(overrides=settings)


@pytest.mark.parametrize(
    "settings",
    [
        ["cluster.workers=auto", "cluster.address=auto", "cluster.gpus_per_worker=0.25"],
        ["cluster.workers=16", "cluster.address='node1.example.org:6379'", "runtime.device=cuda"],
        ["cluster.workers=2", "cluster.address='[::1]:6379'", "cluster.gpus_per_worker=2"],
        ["cluster.workers=2", "batch.shard=1/4"],
    ],
)
def test_possible_settings_are_taken(settings):
    assert uses_workers(load_config(overrides=settings))


def test_a_cluster_without_workers_is_a_slip():
    assert not uses_workers(load_config())
    with pytest.raises(UsageError, match="pass --workers"):
        uses_workers(load_config(overrides=["cluster.address=auto"]))


def test_what_is_one_video_has_no_workers(tmp_path, monkeypatch, logging_as_before):
    words = ["--mode", "decode", "--video_folder", str(tmp_path), "--videos", "a", "--workers", "2"]
    assert run_command("concat", words) == 2
