"""The figures: what a perfect session and a still one get, and how the page tells misses."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mimicmotion.world_training import evaluation
from mimicmotion.world_training.evaluation import Played, judged_blocks, obedience, open_walk, taken_for
from mimicmotion.world_training.evaluation_page import INTRODUCTIONS, WANTED, table_row, write_page
from mimicmotion.worlds import JUDGED_KEYS, WALKS, get_walk, render

BLOCKS = 4


@pytest.fixture(scope="module", params=WALKS)
def perfect(request):
    walk = get_walk(request.param)
    keys, cameras = open_walk(walk, 5, BLOCKS)
    frames = render(cameras)
    return Played(keys, frames, frames, cameras, walk)


def test_blocks_of_a_session_are_consecutive():
    covered = [evaluation.block_slice(block) for block in range(3)]
    assert [(part.start, part.stop) for part in covered] == [(0, 9), (9, 21), (21, 33)]


def test_a_perfect_session_obeys_every_key(perfect):
    judged = list(judged_blocks(perfect))
    assert [entry["told"] for entry in judged] == perfect.keys[1:]
    found = obedience(judged, "all")
    assert found["obeyed_all"] == found["locked_all"] == found["moved_right_all"] == 1
    table = taken_for(judged)
    assert sum(table[key][key] for key in JUDGED_KEYS) == BLOCKS - 1


def test_a_still_session_does_not(perfect):
    still = np.repeat(perfect.true[:1], len(perfect.true), 0)
    judged = list(judged_blocks(replace(perfect, made=still)))
    moving = [entry for entry in judged if entry["key"] != "Q"]
    assert moving
    assert all(entry["told"] != entry["key"] and not entry["moved_right"] for entry in moving)


def test_gradient_energy_falls_with_blur(perfect):
    frames = perfect.true[:4].astype(float)
    blurred = sum(np.roll(frames, (down, across), (1, 2)) for down in range(4) for across in range(4)) / 16
    inside = (slice(None), slice(4, None), slice(4, None))
    assert evaluation.gradient_energy(blurred[inside]) < 0.5 * evaluation.gradient_energy(frames[inside])


@pytest.mark.parametrize("name", WALKS)
def test_an_open_walk_really_walks(name):
    for seed in range(3):
        keys, cameras = open_walk(get_walk(name), seed, 6)
        for block, key in enumerate(keys):
            part = cameras[evaluation.block_slice(block)]
            if key in "WSAD":
                assert np.hypot(*(part[-1] - part[0])[:2]) > 0.4
            else:
                assert np.hypot(*(part[-1] - part[1])[:2]) < 1e-9


@pytest.mark.parametrize(
    ("value", "at_least", "missed"),
    [(0.95, True, False), (0.85, True, True), (None, True, True), (0.85, False, False), (0.95, False, True)],
)
def test_a_figure_beyond_its_bound_is_called_missed(value, at_least, missed):
    assert ("missed" in table_row({"figure": value}, "figure", "text", 0.9, at_least)) is missed


@pytest.mark.parametrize("walk", WALKS)
def test_the_page_tells_figures_misses_and_the_course(tmp_path, walk):
    names = {name for name, *_ in WANTED} - {"gap", "block_cpu_ms"}
    figures = dict.fromkeys(names, 0.5) | {f"forced_{n}": 20.0 for n in ("right", "other", "mirrored", "none")}
    others = (
        "obeyed_still_1-5", "obeyed_still_6-20", "locked_1-5", "psnr_block_1", "psnr_block_5", "idle_psnr",
        "idle_drift_mean", "turned_back_psnr", "denoise_cpu_ms", "decode_cpu_ms", "sessions", "long_sessions",
        "vae_gradient_energy",
    )  # fmt: skip
    figures |= dict.fromkeys(others, 3) | {"taken_for": taken_for([]), "step": 3900}
    (tmp_path / "world").mkdir()
    lines = [{"step": n, "right": 20, "other": 19, "mirrored": 18, "none": 17} for n in range(0, 4000, 100)]
    (tmp_path / "world" / "figures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    losses = [{"step": n, "loss_flow": 1 / (1 + n), "loss_camera": 0.1} for n in range(450)]
    (tmp_path / "world" / "loss.jsonl").write_text("".join(json.dumps(line) + "\n" for line in losses))
    write_page(tmp_path / "page.md", figures, tmp_path, walk)
    with Image.open(tmp_path / "page_curves.png") as curves:
        assert curves.width > 1000
    text = (tmp_path / "page.md").read_text()
    assert "3900 steps" in text
    assert text.startswith(INTRODUCTIONS[walk])
    assert "| 3900 | 20.00 | 1.00 | 2.00 | 3.00 |" in text
    assert text.count("missed") == sum("missed" in line for line in text.splitlines())
    assert f"| VAE alone, dB | 0.50, missed | at least {27.0:g} |" in text
