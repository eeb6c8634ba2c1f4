"""From `--set` to cells: what a cell's settings are, and what is refused before anything is made."""

from pathlib import Path

import pytest

from mimicmotion.cli import build_parser, parse_arguments, parse_config
from mimicmotion.commands import sweep, turbo
from mimicmotion.config import SweepSettings, trace_config
from mimicmotion.errors import UsageError
from mimicmotion.sweep.cells import make_cells, split_values


def cells_of(project, *settings, overrides=(), given=None):
    given = (given or {}) | {"sweep.settings": list(settings), "sweep.output_dir": "out"}
    return make_cells(
        trace_config(str(project / "settings.yaml"), given, list(overrides), {"turbo.scheduler": "--scheduler"})
    )


def test_all_combinations_with_their_places(project):
    cells = cells_of(project, "num_inference_steps=1,2", "seed=5,6", overrides=["batch.videos=[a.mp4]"])
    assert [cell.name for cell in cells] == ["steps-1_seed-5", "steps-1_seed-6", "steps-2_seed-5", "steps-2_seed-6"]
    assert [(c.config.turbo.num_inference_steps, c.config.test_case[0].seed) for c in cells] == [
        (1, 5), (1, 6), (2, 5), (2, 6)
    ]  # fmt: skip
    assert [cell.jobs[0].output for cell in cells] == [Path("out") / c.name / "videos" / "a.mp4" for c in cells]
    assert {cell.clip_of(cell.jobs[0]) for cell in cells} == {"videos/a"}


@pytest.mark.parametrize(
    ("base", "swept", "typed"),
    [
        ([], "scheduler=AYS", ["--scheduler", "AYS"]),
        (["--num_inference_steps", "8"], "scheduler=AYS", ["--scheduler", "AYS"]),
        (["--scheduler", "AYS"], "num_inference_steps=3", ["--num_inference_steps", "3"]),
        ([], "turbo.lcm_lora_scale=5e-1", ["--lcm_lora_scale", "0.5"]),
        (["--seed", "3"], "base_model_path=elsewhere", ["--base_model_path", "elsewhere"]),
        ([], "output.crf=20", ["output.crf=20"]),
    ],
)
def test_a_cell_has_the_settings_of_the_main_script_called_with_its_flags(base, swept, typed, monkeypatch):
    monkeypatch.setattr("mimicmotion.sweep.cells.plan_jobs", lambda config: [])

    def origin(groups, *words):
        return parse_config(parse_arguments(build_parser("Doc.", groups), [*words]), groups)

    [cell] = make_cells(origin(sweep.GROUPS, *sweep.joined(["--set", swept, *base])))
    config = origin(turbo.GROUPS, *base, *typed).config
    config.output.output_dir = cell.config.output.output_dir
    assert cell.config == config
    assert cell.config.sweep == SweepSettings()


def test_equal_combinations_are_one(project):
    assert len(cells_of(project, "lcm_lora_scale=1,1.0,1e0,0.5", "seed=1,1")) == 2


def test_a_setting_behind_set_belongs_to_it():
    words = sweep.joined(["--set", "turbo.num_inference_steps=1,2", "output.crf=3", "--set", "seed=1"])
    arguments = parse_arguments(build_parser("Doc.", sweep.GROUPS), words)
    config = parse_config(arguments, sweep.GROUPS).config
    assert config.sweep.settings == ["turbo.num_inference_steps=1,2", "seed=1"]
    assert config.output.crf == 3


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1,2", ["1", "2"]),
        ("a b.png, c.png", ["a b.png", "c.png"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("'a,b',\"c,d\"", ["'a,b'", '"c,d"']),
        ("it's.png,b", ["it's.png", "b"]),
        ("null,x]", ["null", "x]"]),
    ],
)
def test_values_are_split_outside_brackets_and_quotes(text, values):
    assert split_values(text) == values


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], "nothing to sweep"),
        (["seed"], "NAME=VALUE"),
        (["seed=1,,2"], "empty value"),
        (["seed=[1,2"], "not closed"),
        (["sede=1"], "did you mean 'seed'"),
        (["turbo.stepps=1"], "num_inference_steps"),
        (["num_inference_steps=1,many"], "turbo.num_inference_steps=many"),
        (["num_inference_steps=0,1", "seed=7"], "turbo.num_inference_steps=0, test_case.*seed=7"),
        (["scheduler=AYS,Euler"], "scheduler=Euler"),
        (["decode_overlap=0,8"], "decode_overlap=8"),
        (["seed=1", "test_case[0].seed=2"], "twice"),
        (["turbo.scheduler=AYS", "scheduler=AYS"], "twice"),
        (["output_dir=a,b"], "cannot be swept"),
        (["batch.videos=[a],[b]"], "cannot be swept"),
        (["test_case[*].ref_video_path=a.mp4"], "cannot be swept"),
        (["turbo={scheduler: AYS}"], "many settings"),
        (["ref_image_path=nobody.png"], "nobody.png"),
        (["seed=" + ",".join(map(str, range(200))), "fps=" + ",".join(map(str, range(1, 200)))], "combinations"),
    ],
)
def test_what_cannot_be_swept_is_said(project, settings, words):
    with pytest.raises(UsageError, match=words):
        cells_of(project, *settings)


def test_a_value_that_is_given_as_well_is_not_lost_in_silence(project):
    for settings in ({"overrides": ["test_case[0].seed=4"]}, {"given": {"test_case[*].seed": 4}}):
        with pytest.raises(UsageError, match=r"swept and given as well"):
            cells_of(project, "seed=1,2", **settings)
