"""What a batch of very many results costs beside making them: CPU, memory, and what the run writes.

    python scripts/benchmark_batch.py                      # 20,000 stub results; needs minutes
    python scripts/benchmark_batch.py --linked 1000000     # a million names for a hundred results; needs minutes
    python scripts/benchmark_batch.py --planned 100000     # as many that are not made yet; needs minutes

No model is loaded, and each run is a process of its own. Driving videos and results are small files of their own, with
true records, so that what is measured is the batch and not the pictures:

    by content    no manifest: every video and result is read and hashed, and sealed
    by seal       the same again

Real files have megabytes: by content each is read as well, by seal none is. --linked makes results quickly that nobody
could find finished by their content. With --planned nothing is finished, and what makes a result is a stub that writes
nothing:

    planned       all have their turn, beside a manifest of as many seals

With --dry_run the run by seal only says what it would do.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

ROOT = Path(__file__).resolve().parents[1]
VIDEO_BYTES, RESULT_BYTES = 200, 200


def main(argv: list[str] | None = None) -> int:
    """Prints a table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=20_000, help="finished results (default: 20000)")
    parser.add_argument("--linked", type=int, help="sealed results instead, links to few files; the run by seal alone")
    parser.add_argument("--planned", type=int, help="results to be made, instead")
    parser.add_argument("--dry_run", action="store_true", help="by seal, a dry run")
    parser.add_argument("--folder", type=Path, help="where the files are made, and kept for another run")
    parser.add_argument("--run_in", type=Path, help=argparse.SUPPRESS)  # the measured process
    parser.add_argument("--stub", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.run_in:
        return measured_run(arguments.run_in, arguments.stub, arguments.dry_run)
    dry = ["--dry_run"] if arguments.dry_run else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        header = f"{'':14}{'CPU s':>8}{'ms each':>10}{'peak MB':>9}{'runs.jsonl':>14}{'table':>8}"
        if count := arguments.planned or arguments.linked:
            make_links(folder, count, finished=not arguments.planned)
            print(header)
            name, more = ("planned", ["--stub"]) if arguments.planned else ("by seal", dry)
            print_run(name, folder, count, *more)
            return 0
        make_files(folder, arguments.results)
        for path in (folder / "outputs").glob("manifest*.jsonl"):
            path.unlink()
        print(header)
        print_run("by content", folder, arguments.results)
        print_run("by seal", folder, arguments.results, *dry)
        print(f"manifest.jsonl: {(folder / 'outputs' / 'manifest.jsonl').stat().st_size:,} bytes")
    return 0


def stub_models(folder: Path):
    """What a batch asks of Models before anything is made, without a model."""
    from types import SimpleNamespace

    from mimicmotion.config import load_config

    config = load_config(
        given={
            "batch.video_folder": str(folder / "videos"),
            "output.output_dir": str(folder / "outputs"),
            "output.contact_sheet": False,
            "test_case[*].ref_image_path": str(folder / "person.png"),
        }
    )
    nothing = dict.fromkeys(("check", "resolve", "check_lcm"), lambda: None)
    facts = {"weights": {"unet": "stub"}, "detector_fingerprint": "stub", "decoder_hash": None}
    return SimpleNamespace(config=config, device=SimpleNamespace(type="cpu"), **facts, **nothing)


def make_files(folder: Path, count: int) -> None:
    """Videos that differ, and finished results of them; what is there stays."""
    from mimicmotion.animation import Animator
    from mimicmotion.results import plan_jobs, write_sidecar

    (folder / "videos").mkdir(parents=True, exist_ok=True)
    (folder / "person.png").write_bytes(b"a picture")
    for number in range(len(os.listdir(folder / "videos")), count):
        (folder / "videos" / f"clip-of-a-word-{number:07d}.mp4").write_bytes(f"{number}".encode() * VIDEO_BYTES)
    models = stub_models(folder)
    animator = Animator(models.config, models)
    for job in plan_jobs(models.config):
        if job.beside(".json").exists():
            continue
        job.output.parent.mkdir(parents=True, exist_ok=True)
        job.output.write_bytes(job.name.encode() * RESULT_BYTES)
        write_sidecar(job.output, animator.recipe(job), {})


def make_links(folder: Path, count: int, finished: bool) -> None:
    """So many names for few files: videos, and sealed results where they are `finished`, else seals of none."""
    from mimicmotion.animation import Seals
    from mimicmotion.results import Manifest, plan_jobs

    outputs = folder / "outputs"
    (folder / "videos").mkdir(parents=True)
    (outputs / "videos").mkdir(parents=True)
    (folder / "person.png").write_bytes(b"a picture")
    link_names(folder / "videos", count, ".mp4")
    if not finished:
        lines = (f'{{"output": "videos/{number:07d}.mp4", "seal": "{number:032x}"}}\n' for number in range(count))
        with open(outputs / "manifest.jsonl", "w", encoding="utf-8") as file:
            file.writelines(lines)
        return
    for ending in (".mp4", ".json"):
        link_names(outputs / "videos", count, ending)
    models, manifest = stub_models(folder), Manifest(outputs)
    seals = Seals(models, manifest)
    for job in plan_jobs(models.config):
        manifest.add(job.output, seals.seal(job))
    manifest.flush(at_once=True)


def link_names(folder: Path, count: int, ending: str) -> None:
    """Names of the same length, each ten thousand for one file: many more are not allowed."""
    for number in range(count):
        path = folder / f"clip-of-a-word-{number:07d}{ending}"
        if number % 10_000 == 0:
            first = path
            first.write_bytes(b"a file")
        else:
            os.link(first, path)


def print_run(name: str, folder: Path, count: int, *more: str) -> None:
    """Runs the batch in a process of its own and prints what that took."""
    log = folder / "outputs" / "runs.jsonl"
    log.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--run_in", str(folder), *more]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    table, _, facts = done.stdout.rpartition("\n\n")
    facts = json.loads(facts)
    each = facts["cpu"] / count * 1000
    sizes = f"{log.stat().st_size if log.exists() else 0:14,}{len(table.splitlines()):8,}"
    print(f"{name:14}{facts['cpu']:8.1f}{each:10.3f}{facts['peak_mb']:9.0f}{sizes}")


def measured_run(folder: Path, stub: bool, dry: bool) -> int:
    """The batch; prints its table, then what it took. With `stub` a result takes nothing."""
    from mimicmotion.animation import Animator, animate_folder

    class Stub(Animator):
        def animate(self, outcome):
            outcome.status, outcome.message = "done", str(outcome.job.output)

    models = stub_models(folder)
    models.config.batch.prefetch, models.config.output.dry_run = 0, dry
    code = animate_folder(models.config, (Stub if stub else Animator)(models.config, models))
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = {"cpu": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}
    print(f"\n{json.dumps(facts)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
