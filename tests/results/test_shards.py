"""N shards together are the run: each result once, whatever N, whoever comes late, whatever the folder has by then."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from mimicmotion.animation.animator import Animator
from mimicmotion.animation.batch import animate_folder
from mimicmotion.animation.record import still_to_make
from mimicmotion.commands import run_command
from mimicmotion.config import TestCase, load_config, trace_config
from mimicmotion.errors import InputError, UsageError
from mimicmotion.files import sha256_json
from mimicmotion.latent_concat import run_latent_concat
from mimicmotion.results import Job, Shard, choose_shard, plan_jobs, write_sidecar
from mimicmotion.sweep import run_sweep
from tests.conftest import last_items

NAME = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=9)
NAMES = st.lists(NAME.filter(lambda name: name not in (".", "..")), unique=True)
SLURM = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "4"}


def jobs_of(names, folder="outputs"):
    names = list(names)
    cases = [(name, index) for index in range(2) for name in names]
    return [
        Job(Path("in", name), TestCase(), i, Path(folder, "in", f"case_{i:02d}", f"{name}.mp4")) for name, i in cases
    ]


def config_of(shard, **environment):
    return choose_shard(load_config(overrides=[f"batch.shard={shard}"]), environment)


@hypothesis.given(names=NAMES, count=st.integers(1, 40))
def test_the_shards_are_the_run_each_result_once_in_order(names, count):
    jobs = jobs_of(names)
    shards = [Shard(number, count).jobs_of(jobs, "outputs") for number in range(1, count + 1)]
    assert sorted(jobs.index(job) for shard in shards for job in shard) == list(range(len(jobs)))
    assert all(shard == [job for job in jobs if job in shard] for shard in shards)
    assert Shard().jobs_of(jobs, "outputs") == jobs


@hypothesis.given(names=NAMES, more=NAMES, count=st.integers(1, 9), number=st.integers(1, 9))
def test_a_video_added_meanwhile_moves_no_other(names, more, count, number):
    hypothesis.assume(number <= count)
    before, after = (
        {job.video for job in Shard(number, count).jobs_of(jobs_of(n), "outputs")} for n in (names, names + more)
    )
    assert before == {video for video in after if video.name in names}


def test_the_folder_of_a_machine_does_not_count():
    jobs = jobs_of(map(str, range(30)))
    there = jobs_of(map(str, range(30)), "/mnt/results")
    mine, others = Shard(2, 3).jobs_of(jobs, "outputs"), Shard(2, 3).jobs_of(there, "/mnt/results")
    assert [job.video for job in mine] == [job.video for job in others]


def test_parts_are_of_similar_size():
    jobs = jobs_of(map(str, range(500)))
    sizes = [len(Shard(number, 8).jobs_of(jobs, "outputs")) for number in range(1, 9)]
    assert min(sizes) > 85 and max(sizes) < 165  # 125, and four standard deviations of 10.5


@pytest.mark.parametrize("text", ["0/4", "5/4", "x", "1/0", "0/0", "-1/4", "1/4/4", "1", "''", "1.0/4", "2", "١/4"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match=r"batch\.shard"):
        load_config(overrides=[f"batch.shard={text}"])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (SLURM, "3/4"),
        (SLURM | {"SLURM_ARRAY_TASK_MAX": "6", "SLURM_ARRAY_TASK_STEP": "1"}, "3/4"),
        (SLURM | {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_MAX": "9"}, "3/4"),
        (SLURM | {"RANK": "0", "WORLD_SIZE": "1"}, "3/4"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "1/2"),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_ARRAY_TASK_ID": "1"}, "2/2"),
    ],
)
def test_the_scheduler_numbers_the_shards(environment, expected):
    assert str(config_of("auto", **environment)) == expected
    assert str(config_of("1/7", **environment)) == "1/7"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "SLURM_ARRAY_TASK_ID, SLURM_ARRAY_TASK_MIN, SLURM_ARRAY_TASK_COUNT .* RANK and WORLD_SIZE"),
        ({"SLURM_ARRAY_TASK_ID": "1", "RANK": "0"}, "SLURM_ARRAY_TASK_MIN, SLURM_ARRAY_TASK_COUNT, WORLD_SIZE not set"),
        (SLURM | {"SLURM_ARRAY_TASK_ID": "7"}, "without gaps"),
        (SLURM | {"SLURM_ARRAY_TASK_ID": "2"}, "without gaps"),
        (SLURM | {"SLURM_ARRAY_TASK_MAX": "9"}, "without gaps"),
        (SLURM | {"SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_ID": "6"}, "without gaps"),
        (SLURM | {"SLURM_ARRAY_TASK_STEP": "0"}, "without gaps"),
        (SLURM | {"SLURM_ARRAY_TASK_COUNT": "0"}, "without gaps"),
        (SLURM | {"SLURM_ARRAY_TASK_COUNT": "many"}, "SLURM_ARRAY_TASK_COUNT is 'many'"),
        (SLURM | {"RANK": "0", "WORLD_SIZE": "2"}, "both"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK is '-1'"),
    ],
)
def test_numbers_that_leave_something_to_nobody_are_refused(environment, named):
    with pytest.raises(UsageError, match=named):
        config_of("auto", **environment)


class Painter(Animator):
    """Makes results of the right recipe without sampling; what is in them is the recipe's hash."""

    def animate(self, outcome):
        if outcome.job.video.stem == "broken":
            raise InputError("broken")
        made_from = self.recipe(outcome.job)
        if not still_to_make(self.models, outcome.job, made_from):
            outcome.skip()
            return
        outcome.job.output.write_text(sha256_json(made_from))
        write_sidecar(outcome.job.output, made_from, {"frames": 6})
        outcome.status = "done"


@pytest.fixture
def many(project):
    """A project with twelve videos, two of which have the same stem."""
    for name in [*(f"clip {i}.mp4" for i in range(8)), "clip 1.mkv"]:
        shutil.copy(project / "videos" / "a.mp4", project / "videos" / name)
    for job in plan_jobs(settings(project, "null")):
        if not job.poses_in(project / "poses").exists():
            shutil.copy(project / "poses" / "a.npz", job.poses_in(project / "poses"))
    return project


def settings(project, shard, *overrides, folder="outputs"):
    plain = ["output.contact_sheet=false", "output.page=false", f"output.output_dir={project / folder}"]
    return load_config(project / "settings.yaml", overrides=[*plain, f"batch.shard={shard}", *overrides])


def run(project, shard, *overrides, folder="outputs"):
    config = settings(project, shard, *overrides, folder=folder)
    return animate_folder(config, Painter(config))


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.mp4")}


def history(project, capsys, *argv):
    capsys.readouterr()
    code = run_command("history", [str(project / "outputs"), *argv])
    return code, capsys.readouterr().out


@pytest.mark.usefixtures("logging_as_before")
def test_shards_make_the_files_of_the_whole_run_and_the_history_tells_of_all(many, capsys):
    assert run(many, "null", folder="whole") == 0
    planned = len(files(many / "whole"))
    assert (run(many, "3/3"), run(many, "1/3")) == (0, 0)
    left = planned - len(files(many / "outputs"))
    code, told = history(many, capsys, "--summary")
    assert code == 1 and left
    assert f"{planned - left} of {planned} results are finished: {planned - left} done" in told
    assert f"{left} results were planned and not begun" in told and "shard 2/3 never began" in told
    # One more result does not stand for the shard that is lacking.
    (many / "more").mkdir()
    shutil.copy(many / "videos" / "a.mp4", many / "more")
    assert run(many, "null", f"batch.video_folder={many / 'more'}") == 0
    assert "shard 2/3 never began" in history(many, capsys, "--summary")[1]
    shutil.rmtree(many / "outputs" / "more")
    (many / "outputs" / "runs.jsonl").unlink()
    assert [run(many, f"{number}/3") for number in (3, 2, 1)] == [0, 0, 0]
    assert files(many / "outputs") == files(many / "whole")
    code, told = history(many, capsys, "--summary")
    assert code == 0 and f"{planned} of {planned} results are finished: " in told and "shard 2/3" not in told


@pytest.mark.usefixtures("logging_as_before")
def test_the_summary_takes_the_last_end_of_each_result(many, capsys):
    (many / "videos" / "clip 3.mp4").rename(many / "videos" / "broken.mp4")
    shutil.copy(many / "poses" / "a.npz", many / "poses" / "broken.npz")
    assert run(many, "null") == 1
    code, told = history(many, capsys, "--summary")
    assert code == 1 and "11 of 12 results are finished: 11 done, 1 failed" in told
    assert re.search(r"^failed .*/outputs/videos/broken\.mp4  broken$", told, re.M)
    assert run(many, "null", "batch.videos=[a.mp4]") == 0
    code, told = history(many, capsys, "--summary")
    assert code == 1 and "11 of 12 results are finished: 1 skipped, 10 done, 1 failed" in told


@pytest.mark.usefixtures("logging_as_before")
def test_a_killed_shard_is_told(many, capsys):
    log = many / "outputs" / "runs.jsonl"
    for number in (1, 2, 3):
        run(many, f"{number}/3")
    lines = log.read_text().splitlines()
    log.write_text("\n".join(lines[:-1]) + "\n")  # the end of the last
    code, told = history(many, capsys, "--summary")
    assert code == 1 and "shard 3/3 was killed or still runs" in told and "shard 2/3" not in told
    run(many, "3/3")
    assert history(many, capsys, "--summary")[0] == 0


def test_the_lines_of_a_shard_say_which(many):
    planned = len(plan_jobs(settings(many, "null")))
    run(many, "2/3")
    first = json.loads((many / "outputs" / "runs.jsonl").read_text().splitlines()[0])
    items = last_items(many / "outputs")
    assert (first["shard"], first["planned"], first["planned_in_all"]) == ("2/3", len(items), planned)
    assert 0 < len(items) < planned


def test_a_shard_without_results_is_done(many, capsys):
    only = "batch.videos=[a.mp4]"
    ends = {number: run(many, f"{number}/2", only) for number in (1, 2)}
    assert set(ends.values()) == {0}
    assert capsys.readouterr().out.count("none of the 1 results of the whole run falls to it") == 1
    assert len(files(many / "outputs")) == 1
    assert sorted(json.loads(line).get("planned", -1) for line in (many / "outputs" / "runs.jsonl").open())[-2:] == [
        0,
        1,
    ]
    shutil.rmtree(many / "outputs")
    for number in (1, 2):
        assert run(many, f"{number}/2", only, "output.dry_run=true") == 0
    assert "1 results, " in capsys.readouterr().out and not (many / "outputs").exists()


def test_what_others_would_replace_is_theirs(many):
    """A result that was made differently stops the shard that would replace it, and no other."""
    jobs = plan_jobs(settings(many, "null"))
    run(many, "2/3")
    for number, refused in ((1, False), (3, False), (2, True)):
        mine = Shard(number, 3).jobs_of(jobs, many / "outputs")
        if refused:
            with pytest.raises(UsageError, match="made differently"):
                run(many, f"{number}/3", "test_case.0.seed=9")
        else:
            assert run(many, f"{number}/3", "test_case.0.seed=9") == 0
            assert all(job.output.exists() for job in mine)


def test_the_dry_run_shows_the_results_of_the_shard(many, capsys):
    jobs = plan_jobs(settings(many, "null"))
    mine = [job.name for job in Shard(1, 3).jobs_of(jobs, many / "outputs")]
    assert run(many, "1/3", "output.dry_run=true") == 0
    told = capsys.readouterr().out
    assert [job.name for job in jobs if job.name in told] == mine and f"{len(mine)} results, " in told


def test_shards_of_a_sweep_make_its_cells(many, monkeypatch, capsys):
    monkeypatch.setattr("mimicmotion.sweep.run.Animator", Painter)
    monkeypatch.setattr("mimicmotion.sweep.run.compare", lambda *_, **__: print("compared"))

    def sweep(folder, shard):
        values = {"sweep.settings": ["seed=1,2", "fps=15,30"], "sweep.output_dir": str(many / folder)}
        values |= {"batch.shard": shard, "batch.videos": ["a", "b", "clip 1"], "feature_cache.enabled": False}
        return run_sweep(trace_config(many / "settings.yaml", values))

    assert sweep("whole", None) == 0
    assert "compared" in capsys.readouterr().out
    assert [sweep("parts", f"{number}/3") for number in (1, 2, 3)] == [0, 0, 0]
    told = capsys.readouterr().out
    assert "compared" not in told and told.count("the same command without --shard") == 3
    assert files(many / "parts") == files(many / "whole") and len(files(many / "parts")) == 16
    # Each made its own.
    assert [sweep("single", "2/3"), sweep("single", "2/3")] == [0, 0]
    assert 0 < len(files(many / "single")) < 16


def test_shards_of_clips_keep_the_latents_of_all(many, monkeypatch, capsys):
    def encode(_, outcome):
        outcome.job.output.write_text(outcome.job.output.name)
        outcome.status = "done"

    monkeypatch.setattr("mimicmotion.latent_concat.run.Encoder.encode", encode)

    def concat(mode, shard, folder):
        where = [f"latent_concat.output_dir={many / folder}", f"latent_concat.cache_dir={many / 'latents'}"]
        return run_latent_concat(settings(many, shard, f"latent_concat.mode={mode}", *where))

    assert concat("encode", "null", "whole") == 0
    assert [concat("encode", f"{number}/3", "parts") for number in (1, 2, 3)] == [0, 0, 0]
    assert files(many / "parts") == files(many / "whole") and len(files(many / "whole")) == 12
    assert len(last_items(many / "parts")) < 12
    with pytest.raises(UsageError, match="--shard"):
        concat("decode", "1/3", "parts")


@pytest.mark.usefixtures("logging_as_before")
def test_the_command_refuses_before_any_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in (*SLURM, "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for command in ("turbo", "cache", "sweep", "concat"):
        more = {"sweep": ["--set", "seed=1,2"], "concat": ["--mode", "encode"]}.get(command, [])
        for shard in ("0/4", "auto"):
            assert run_command(command, [*more, "--shard", shard]) == 2
    assert capsys.readouterr().err.count("ERROR --shard auto looked for SLURM_ARRAY_TASK_ID") == 4
    assert list(tmp_path.iterdir()) == []


def test_the_line_of_a_cluster_is_read_by_a_shell():
    """The blocks of the page are scripts of a shell, and each command that they submit takes its part by itself."""
    page = (Path(__file__).resolve().parents[2] / "doc" / "scale_out.md").read_text()
    scripts = re.findall(r"^```bash\n(.*?)^```", page, re.M | re.S)
    assert len(scripts) == 2
    for script in scripts:
        assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    assert "--shard auto" in scripts[0] and "#SBATCH --array=" in scripts[0]
