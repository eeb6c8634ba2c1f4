"""Parts run apart, each with its own end; commands of the parts are such that their scripts' parsers take them."""

import json
import sys
from dataclasses import replace

import pytest

from mimicmotion.cli import DEVICE, MODEL, POSE, RUN, TURBO
from scripts import benchmark_gpu
from scripts.benchmark_gpu import Part
from tests.conftest import HANG_SECONDS

# A script with two flags that does what its name of a part says.
STAND_IN = """
import sys, time
if "--help" in sys.argv:
    print("usage: x [--work HOW] [--device D] [--output_dir DIR]")
elif "hang" in sys.argv:
    print("waiting", flush=True)
    while True:
        time.sleep(60)
elif "mute" in sys.argv:
    pass
elif "good" in sys.argv:
    open(sys.argv[sys.argv.index("--output_dir") + 1] + "/figure", "w").write("2.5")
else:
    print("about to go wrong")
    print("error: nothing of the kind")
    print("")
    sys.exit(3 if "lacks" in sys.argv else 1)
"""


def command(part, _inputs, folder, _size, _device):
    return [sys.executable, part.script, *part.flags, "--output_dir", str(folder)]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    script = tmp_path / "script.py"
    script.write_text(STAND_IN)
    read = {str(script): lambda folder, _: {"figure": float((folder / "figure").read_text()), "unit": "s of work"}}
    monkeypatch.setattr(benchmark_gpu, "READERS", read)
    monkeypatch.setattr(benchmark_gpu, "make_inputs", lambda *_: {"device": "cpu", "description": "a test"})
    monkeypatch.setattr(benchmark_gpu, "command_of", command)
    top = [{"kernel": "a|b", "calls": 7, "ms": 2.5, "share": 0.75}]
    found = {"profile": {"of": "kernels", "ms": 3.3, "top": top}}
    monkeypatch.setattr(benchmark_gpu, "profile_part", lambda *_: found)
    return str(script)


def run(monkeypatch, tmp_path, parts, *arguments):
    monkeypatch.setattr(benchmark_gpu, "PARTS", tuple(parts))
    code = benchmark_gpu.main([f"--out={tmp_path / 'out'}", *arguments])
    results = json.loads((tmp_path / "out" / "benchmark_gpu.json").read_text())
    return code, {part["name"]: part for part in results["parts"]}, (tmp_path / "out" / "benchmark_gpu.md").read_text()


def test_what_fails_hangs_or_lacks_leaves_its_reason_and_the_others_go_on(stand_in, tmp_path, monkeypatch):
    parts = [
        Part("hangs", stand_in, ("--work", "hang"), minutes=0.05),
        Part("fails", stand_in, ("--work", "bad")),
        Part("mute", stand_in, ("--work", "mute")),
        Part("lacks", stand_in, ("--work", "lacks")),
        Part("unknown", stand_in, ("--play", "good")),
        Part("on a GPU", stand_in, ("--work", "good"), needs_gpu=True),
        Part("good", stand_in, ("--work", "good"), goal=3),
        Part("slow", stand_in, ("--work", "good"), goal=2),
    ]
    code, found, page = run(monkeypatch, tmp_path, parts)
    assert code == 1
    assert {name: part["status"] for name, part in found.items()} == {
        "hangs": "hung", "fails": "failed", "mute": "failed", "lacks": "not here", "unknown": "skipped",
        "on a GPU": "skipped",
        "good": "done", "slow": "done",
    }  # fmt: skip
    assert found["fails"]["reason"] == found["lacks"]["reason"] == "error: nothing of the kind"
    assert "cannot be read" in found["mute"]["reason"]
    assert found["unknown"]["reason"] == "this version has no --play"
    rows = {row.split(" | ")[0].removeprefix("| "): row for row in page.splitlines() if row.startswith("| ")}
    assert "2.5 s of work | 3 |" in rows["good"] and "goal missed" not in rows["good"]
    assert "goal missed" in rows["slow"]
    assert [name for name, part in found.items() if "profile" in part] == ["slow"]
    assert "## Where slow takes its time" in page and "| 2.5 | 75.0% | 7 | `a/b` |" in page
    assert all(part.name in rows for part in parts) and "--work good" in page


def test_parts_beyond_the_time_of_the_whole_are_not_begun(stand_in, tmp_path, monkeypatch):
    code, found, _ = run(monkeypatch, tmp_path, [Part("good", stand_in, ("--work", "good"))], "--minutes=0.4")
    assert code == 0 and found["good"]["status"] == "skipped" and "--minutes" in found["good"]["reason"]


def test_parts_are_chosen_by_the_beginning_of_their_name(stand_in, tmp_path, monkeypatch, capsys):
    parts = [Part(name, stand_in, ("--work", "good")) for name in ("one", "one more", "two")]
    _, found, _ = run(monkeypatch, tmp_path, parts, "--parts=one")
    assert list(found) == ["one", "one more"]
    assert benchmark_gpu.main(["--parts=three"]) == 2
    assert "there are one; one more; two" in capsys.readouterr().err


def test_figures_of_the_main_script_are_those_of_its_second_clip(tmp_path):
    records = []
    for name, sampling in (("again", 9.0), ("long", 2.0)):
        output = tmp_path / f"{name}.mp4"
        output.with_suffix(".json").write_text(json.dumps({"peak_memory_bytes": 3 * 2**30, "vae_chunks_in_fp32": 1}))
        stages = {"poses": 0.5, "sampling": sampling, "decoding": 1.25}
        records.append(
            {"kind": "item", "time": "2026-01-01T00:01:00+00:00", "output": str(output), "stage_seconds": stages}
        )
    lines = [{"kind": "run"}, *records, {"kind": "end"}]
    (tmp_path / "runs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = benchmark_gpu.read_turbo(tmp_path, started=1767225600.0)
    assert found["figure"] == 3.25 and found["first_stage_seconds"]["sampling"] == 9.0
    assert found["first_result_after_s"] == 60.0 and found["peak_gib"] == 3.0
    assert "1 chunks decoded in fp32" in benchmark_gpu.note({"status": "done", "goal": None} | found)


@pytest.mark.parametrize(("more", "figure"), [({}, 12.5), ({"overlapped": {"frames_per_second": 20.0}}, 20.0)])
def test_the_world_models_figure_is_that_of_decoding_beside_denoising(tmp_path, more, figure):
    figures = {
        "frames_per_second": {"with_decode": 12.5, "denoise_only": 30.0},
        "memory": {"block_10": {"peak_mib": 1024}, "last_block": {"peak_mib": 2048}},
    }
    (tmp_path / "benchmark_streaming.json").write_text(json.dumps(figures | more))
    found = benchmark_gpu.read_streaming(tmp_path, 0)
    assert found["figure"] == figure and found["peak_gib"] == 2.0


def test_settings_of_this_version_are_known_to_the_main_script():
    known = {flag.name for group in (RUN, MODEL, DEVICE, POSE, TURBO) for flag in group}
    # Those that other versions may have beside.
    later = {"--decoder", "--vram"}
    parts = [part for part in benchmark_gpu.PARTS if part.script == benchmark_gpu.TURBO]
    for part in parts:
        assert {flag for flag in part.flags if flag.startswith("--")} <= known | later, part
    assert sum(part.goal is not None for part in parts) == 4


def test_the_tiny_size_runs_the_whole_way_on_any_machine(tmp_path, monkeypatch):
    patient = HANG_SECONDS / 60
    parts = [part for part in benchmark_gpu.PARTS if part.name == "AYS 10 + step cache 2"]
    monkeypatch.setattr(benchmark_gpu, "PARTS", [replace(part, goal=1.0, minutes=patient) for part in parts])
    arguments = ["--smoke", "--device=cpu", "--parts=AYS 10 +", f"--out={tmp_path}"]
    assert benchmark_gpu.main(arguments) == 0
    results = json.loads((tmp_path / "benchmark_gpu.json").read_text())
    (part,) = results["parts"]
    assert part["status"] == "done" and part["stage_seconds"]["sampling"] > 0 and part["peak_gib"] > 0.1
    assert "--step_cache 2" in part["command"] and results["machine"]["model"] == "tiny"
    page = (tmp_path / "benchmark_gpu.md").read_text()
    assert "| AYS 10 + step cache 2 |" in page and "## Where AYS 10 + step cache 2 takes its time" in page
    times = [row["ms"] for row in part["profile"]["top"]]
    assert times == sorted(times, reverse=True) and len(times) > 10
    assert any("conv" in row["kernel"] for row in part["profile"]["top"])
