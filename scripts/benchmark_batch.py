"""What a batch of very many results costs when they are finished: CPU, memory, and what the run writes.

    python scripts/benchmark_batch.py                      # 10,000 stub results; needs minutes
    python scripts/benchmark_batch.py --results 1000000    # 4 million small files; needs minutes, 20 GB of disk

No model is loaded. Driving videos and results are small files of their own, with true records, so that what is measured
is the batch and not the pictures. Two runs, each a process of its own:

    by content    no manifest: every video and result is read and hashed, and sealed
    by seal       the same again

Real files have megabytes: by content each is read as well, by seal none is.
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
    parser.add_argument("--results", type=int, default=10_000, help="finished results (default: 10000)")
    parser.add_argument("--folder", type=Path, help="where the files are made, and kept for another run")
    parser.add_argument("--run_in", type=Path, help=argparse.SUPPRESS)  # the measured process
    arguments = parser.parse_args(argv)
    if arguments.run_in:
        return measured_run(arguments.run_in)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        make_files(folder, arguments.results)
        for path in (folder / "outputs").glob("manifest*.jsonl"):
            path.unlink()
        print(f"{'':14}{'CPU s':>8}{'ms each':>10}{'peak MB':>9}{'runs.jsonl':>12}{'table':>8}")
        for name in ("by content", "by seal"):
            print_run(name, folder, arguments.results)
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
    return SimpleNamespace(config=config, weights={"unet": "stub"}, detector_fingerprint="stub", **nothing)


def make_files(folder: Path, count: int) -> None:
    """Videos that differ, and finished results of them; what is there stays."""
    from mimicmotion.animation.record import job_recipe
    from mimicmotion.files import sealed
    from mimicmotion.results import describe_file, plan_jobs
    from mimicmotion.results.sidecar import FORMAT_VERSION, sha256_json

    (folder / "videos").mkdir(parents=True, exist_ok=True)
    (folder / "person.png").write_bytes(b"a picture")
    for number in range(len(os.listdir(folder / "videos")), count):
        (folder / "videos" / f"clip-of-a-word-{number:07d}.mp4").write_bytes(f"{number}".encode() * VIDEO_BYTES)
    models = stub_models(folder)
    for job in plan_jobs(models.config):
        if job.beside(".json").exists():
            continue
        job.output.parent.mkdir(parents=True, exist_ok=True)
        job.output.write_bytes(job.name.encode() * RESULT_BYTES)
        made_from = job_recipe(models, job)
        record = {"format_version": FORMAT_VERSION, "files": {".mp4": describe_file(job.output)}}
        # As write_sidecar has it, without waiting for the disk.
        record |= {"recipe_sha256": sha256_json(made_from), **made_from}
        job.beside(".json").write_text(json.dumps(sealed(record)))


def print_run(name: str, folder: Path, count: int) -> None:
    """Runs the batch in a process of its own and prints what that took."""
    log = folder / "outputs" / "runs.jsonl"
    log.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--run_in", str(folder)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    table, _, facts = done.stdout.rpartition("\n\n")
    facts = json.loads(facts)
    each = facts["cpu"] / count * 1000
    sizes = f"{log.stat().st_size:12,}{len(table.splitlines()):8,}"
    print(f"{name:14}{facts['cpu']:8.1f}{each:10.3f}{facts['peak_mb']:9.0f}{sizes}")


def measured_run(folder: Path) -> int:
    """The batch; prints its table, then what it took."""
    from mimicmotion.animation import Animator, animate_folder

    models = stub_models(folder)
    code = animate_folder(models.config, Animator(models.config, models))
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = {"cpu": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1024}
    print(f"\n{json.dumps(facts)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
