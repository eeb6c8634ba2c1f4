"""Names of cells: every combination has its own, and any file system takes it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimicmotion.config import describe_setting
from mimicmotion.sweep.names import cell_name, title_of

TEXTS = st.text(max_size=300) | st.sampled_from(["a/x.png", "b/x.png", "A/X.png", "..", "con", "Ä b\n", "a_b-1"])
KINDS = {
    "turbo.num_inference_steps": st.none() | st.integers(1, 50),
    "test_case[*].num_inference_steps": st.integers(1, 50),
    "turbo.guidance_scale": st.none() | st.floats(0, 1e6, allow_nan=False),
    "turbo.scheduler": st.sampled_from(describe_setting("turbo.scheduler").metadata["choices"]),
    "turbo.lcm_lora_path": st.none() | TEXTS,
    "turbo.lcm_lora_scale": st.floats(-10, 10),
    "turbo.more_lora_scales": st.none() | st.lists(st.floats(-1e30, 1e30), max_size=3),
    "turbo.more_lora_paths": st.lists(TEXTS, max_size=2),
    "turbo.fuse_lcm_lora": st.booleans(),
    "test_case[*].seed": st.integers(0, 2**63 - 1),
    "test_case[1].seed": st.integers(0, 9),
    "test_case[*].ref_image_path": TEXTS,
    "base_model_path": TEXTS,
    "pose.model_det": TEXTS,
    "sampling.decode_overlap": st.integers(0, 7),
    "runtime.offload": st.sampled_from(describe_setting("runtime.offload").metadata["choices"]),
}
CELLS = st.fixed_dictionaries({}, optional=KINDS).filter(bool)


@given(CELLS, CELLS)
def test_other_settings_have_another_name_that_is_safe(one, other):
    names = [cell_name(values) for values in (one, other)]
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.+_-]*[A-Za-z0-9+])?", name)
        assert len(name) <= 120
    assert (names[0].casefold() == names[1].casefold()) == (one == other)


@settings(max_examples=30)
@given(CELLS, st.randoms())
def test_the_order_of_the_flags_is_no_part_of_a_name(values, random):
    shuffled = list(values.items())
    random.shuffle(shuffled)
    assert cell_name(dict(shuffled)) == cell_name(values)


@pytest.mark.parametrize(
    ("values", "name", "title"),
    [
        (
            {"test_case[*].seed": 1, "turbo.num_inference_steps": 4, "turbo.scheduler": "AYS"},
            "AYS_steps-4_seed-1",
            "AYS, steps 4, seed 1",
        ),
        (
            {"turbo.guidance_scale": 1.0, "turbo.lcm_lora_scale": 0.75},
            "guidance-1_scale-0.75",
            "guidance 1, scale 0.75",
        ),
        ({"turbo.more_lora_scales": [0.25, 1.0]}, "more-scales-0.25+1", "more-scales 0.25+1"),
        ({"turbo.num_inference_steps": None, "turbo.fuse_lcm_lora": False}, "steps-null_fuse-lcm-lora-false", None),
        ({"test_case[*].fps": 12.5, "test_case[0].seed": 3}, "fps-12.5_case-0-seed-3", None),
    ],
)
def test_names_can_be_read(values, name, title):
    assert cell_name(values) == name
    assert title is None or title_of(values) == title


def test_files_are_called_by_their_stem_and_told_apart():
    names = [cell_name({"test_case[*].ref_image_path": path}) for path in ("a/anna.png", "b/anna.png", "a/Anna.png")]
    assert all(re.fullmatch(r"ref-anna-[0-9a-f]{6}", name) for name in names)
    assert len(set(names)) == 3
