"""The plan for a card as plain arithmetic; tests/fake_cuda holds it against what is really held."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.config import vram_limit
from mimicmotion.errors import UsageError
from mimicmotion.pipelines.vram_plan import GIB, LADDER, LEFT_FREE, PARAMETERS, Rung, Shape, allowed_rungs, peak, plan

TURBO = Shape(tile=72, frames=72, height=576, width=1024, guided=False, chunk=8)
GUIDED = replace(TURBO, guided=True)
shapes = st.builds(
    Shape,
    tile=st.integers(2, 200),
    frames=st.integers(2, 2000),
    height=st.integers(1, 20).map(lambda n: 64 * n),
    width=st.integers(1, 32).map(lambda n: 64 * n),
    guided=st.booleans(),
    chunk=st.integers(1, 32),
    size=st.sampled_from([2, 4]),
    vae_size=st.sampled_from([2, 4]),
)


def test_the_cards_that_people_have():
    assert peak(TURBO, Rung(False, True, "none")).most <= 11.0 * GIB
    assert peak(GUIDED, Rung(False, True, "none")).most <= 12.0 * GIB
    assert peak(TURBO, Rung(False, True, "model")).most <= 7.5 * GIB
    for gib, rung in ((8, Rung(False, True, "model")), (12, Rung(False, True, "none")), (80, LADDER[0])):
        assert plan([GUIDED], gib * GIB) == rung


@given(shapes)
def test_each_rung_takes_no_more_than_the_one_before(shape):
    for before, after in pairwise(peak(shape, rung) for rung in LADDER):
        assert after.sampling <= before.sampling
        assert after.decoding <= before.decoding


@given(shapes, st.integers(1, 80))
def test_what_is_chosen_fits_and_what_is_advised_would(shape, gib):
    try:
        assert peak(shape, plan([shape], gib * GIB)).most <= gib * GIB - LEFT_FREE
    except UsageError as error:
        advised = dict(re.findall(r"--(\w+) (\d+)", str(error)))
        names = {"num_frames": "tile", "decode_chunk_size": "chunk", "decode_tile": "decode_tile"}
        changed = replace(shape, **{names[name]: int(value) for name, value in advised.items() if name in names})
        assert changed != shape or "a lower --resolution" in str(error)
        if "a lower --resolution" not in str(error):
            plan([changed], gib * GIB)


def test_what_was_asked_for_is_left_alone():
    assert {rung.batched for rung in allowed_rungs("on", "none", False, False, True)} == {True}
    assert {rung.batched for rung in allowed_rungs("off", "none", False, False, True)} == {False}
    assert {rung.offload for rung in allowed_rungs("auto", "model", False, False, True)} == {"model"}
    assert {rung.offload for rung in allowed_rungs("auto", "none", True, False, True)} == {"none"}
    assert "sequential" not in {rung.offload for rung in allowed_rungs("auto", "none", False, True, True)}
    assert not any(rung.batched for rung in allowed_rungs("auto", "none", False, False, False))


def test_an_advised_chunk_goes_with_an_overlap_below_it():
    with pytest.raises(UsageError, match="--decode_chunk_size 2 --decode_overlap 1,"):
        plan([replace(TURBO, tile=16, overlap=2)], 3 * GIB)


def test_a_run_is_planned_for_its_largest_result():
    small = replace(TURBO, tile=16, height=320, width=576)
    assert plan([small, TURBO, small], 12 * GIB) == plan([TURBO], 12 * GIB)


@pytest.mark.parametrize("text", ["0", "-1", "8GB", "", "nan", "1e3", "８"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="GiB"):
        vram_limit(text)


def test_sizes_of_cards():
    assert (vram_limit("auto"), vram_limit("8"), vram_limit("0.5")) == (None, 8 * GIB, GIB // 2)


def test_a_step_cache_keeps_203_mib_of_each_tile_and_pass_and_8_bit_floats_halve_the_unet():
    rung = LADDER[1]
    plain = peak(GUIDED, rung)
    stored = peak(replace(GUIDED, stores=2), rung).sampling - plain.sampling
    assert stored == 2 * 72 * 36 * 64 * 640 * 2 == pytest.approx(2 * 203 * 2**20, rel=0.01)
    assert plain.sampling - peak(replace(GUIDED, fp8=True), rung).sampling == PARAMETERS["UNet"]
