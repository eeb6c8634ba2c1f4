"""No run can lose a finished result unasked, whatever its settings."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from mimicmotion.animation.animator import Animator
from mimicmotion.animation.batch import animate_folder
from mimicmotion.animation.record import still_to_make
from mimicmotion.commands import run_command
from mimicmotion.config import load_config
from mimicmotion.errors import UsageError
from mimicmotion.files import sha256_json
from mimicmotion.results import plan_jobs, write_sidecar
from mimicmotion.results.replacing import differences
from tests.conftest import last_items

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "test_case[0].seed": st.integers(0, 2),
        "test_case[0].fps": st.sampled_from([15, 30]),
        "turbo.num_inference_steps": st.integers(1, 3),
        "turbo.scheduler": st.sampled_from(["AYS", "AnimateLCM_SVD"]),
        "sampling.pose_strength": st.sampled_from([1.0, 0.5]),
        "reference.aspect": st.sampled_from(["published", "auto"]),
        "output.crf": st.sampled_from([18, 30]),
        "output.variant": st.sampled_from(["a", "b"]),
    },
)


class Painter(Animator):
    """Makes results of the right recipe without sampling; what is in them is the recipe's hash."""

    def animate(self, outcome):
        made_from = self.recipe(outcome.job)
        if not still_to_make(self.models, outcome.job, made_from):
            outcome.skip()
            return
        outcome.job.output.write_text(sha256_json(made_from))
        write_sidecar(outcome.job.output, made_from, {})
        outcome.status = "done"


def configure(project, outputs, values, overwrite):
    plain = {"output.output_dir": str(outputs), "output.contact_sheet": False, "output.page": False}
    return load_config(project / "settings.yaml", {**plain, **values, "output.overwrite": overwrite})


def run(config):
    return animate_folder(config, Painter(config))


@hypothesis.settings(
    max_examples=40,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
)
@hypothesis.given(first=SETTINGS, second=SETTINGS)
def test_of_two_runs_the_second_loses_nothing_of_the_first(project, tmp_path_factory, first, second):
    outputs = tmp_path_factory.mktemp("outputs")
    run(configure(project, outputs, first, False))
    before = {path: path.read_bytes() for path in outputs.rglob("*.mp4")}
    again, config = set(), configure(project, outputs, second, False)
    places = {job.output for job in plan_jobs(config)}
    try:
        assert run(config) == 0
        again = {path for path in outputs.rglob("*.mp4") if path not in before}
        assert again == places - set(before)
    except UsageError as error:
        assert "--variant" in str(error) and places == set(before)
        assert run(configure(project, outputs, second, True)) == 0
        assert all(path.read_bytes() != content for path, content in before.items())
        return
    assert {path: path.read_bytes() for path in before} == before


def test_what_is_different_is_said_by_path():
    old = {"settings": {"turbo": {"steps": 4, "scheduler": "AYS"}}, "inputs": {"video": "a" * 64}}
    new = {"settings": {"turbo": {"steps": 8, "scheduler": "AYS"}}, "inputs": {"video": "b" * 64, "poses": "c"}}
    assert differences(old, new) == [
        "turbo.steps: 4, now 8",
        "inputs.video: 'aaaaaaaaaaa...', now 'bbbbbbbbbbb...'",
        "inputs.poses: None, now 'c'",
    ]
    assert differences(old, old) == []


@pytest.mark.usefixtures("logging_as_before")
def test_the_command_of_the_history_gives_the_same_bytes(project, capsys):
    command = [sys.executable, str(ROOT / "inference_raw_batch_turbo.py"), "--videos", "a.mp4"]
    command += ["--inference_config", "settings.yaml", "--num_inference_steps", "1", "output.contact_sheet=false"]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    made = (project / "outputs" / "videos" / "a.mp4").read_bytes()
    shutil.rmtree(project / "outputs" / "videos")
    assert run_command("history", [str(project / "outputs"), "--rerun", "last"]) == 0
    line = capsys.readouterr().out
    assert shlex.join(command[2:]) in line
    subprocess.run(line, shell=True, check=True, capture_output=True, cwd=ROOT)
    assert last_items(project / "outputs")[0]["status"] == "done"
    assert (project / "outputs" / "videos" / "a.mp4").read_bytes() == made
