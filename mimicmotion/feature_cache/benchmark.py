"""What the feature cache saves, measured: cold and warm passes of one result take turns.

Networks and detector are loaded and have worked once before the clock starts, so that a cold pass differs from a warm
one by its empty cache alone. Every pass reads and hashes its inputs anew. The user's cache is not touched.
"""

import logging
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mimicmotion.animation import Animator, Models
from mimicmotion.config import Config
from mimicmotion.device import describe_device
from mimicmotion.feature_cache.cached_features import cached_animator
from mimicmotion.feature_cache.store import FeatureCache, statistics_record
from mimicmotion.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    forget_content_hashes,
    require_writable,
    sha256_file,
    write_json,
)
from mimicmotion.results import Job, plan_jobs, versions
from mimicmotion.timing import StageClock

logger = logging.getLogger(__name__)

NAME = "benchmark_cache"
STAGES = ("preprocess", "pipeline", "total")


@dataclass(frozen=True)
class Pass:
    """One measured pass: kind "cold" or "warm", seconds by stage, what the cache did, hash of the mp4."""

    kind: str
    seconds: dict[str, float]
    levels: dict[str, dict]
    frames: int
    output_sha256: str


def benchmark_cache(config: Config) -> int:
    """Measures the first result of the configuration; the exit code.

    Logs a table and writes benchmark_cache.json and .png, and the result itself, into the output folder.

    Raises: UsageError, SetupError and InputError as a run does.
    """
    if not config.feature_cache.enabled:
        logger.info("--disable_feature_cache is ignored by --benchmark_cache")
    if config.batch.shard is not None:
        logger.info("--shard is ignored by --benchmark_cache, which measures the first result of all")
    if config.cluster.workers is not None:
        logger.info("--workers is ignored by --benchmark_cache, which measures this process")
    job, folder = plan_jobs(config)[0], Path(config.output.output_dir)
    require_writable(job.output.parent)
    require_writable(config.feature_cache.folder)
    # Below the cache folder, so that the disk is the one that a run would use.
    prefix, beside = f"{TEMPORARY_PREFIX}benchmark-", config.feature_cache.folder
    with tempfile.TemporaryDirectory(prefix=prefix, dir=beside) as temporary:
        animator = cached_animator(Models(config), FeatureCache(Path(temporary) / "warm-up"))
        animator.models.check()
        run_pass(animator, job, "warm-up")
        passes = []
        for repeat in range(config.feature_cache.benchmark_repeats):
            for kind in ("cold", "warm"):
                animator.features.cache = FeatureCache(Path(temporary) / str(repeat))
                passes.append(run_pass(animator, job, kind))
    report = summarise(passes) | {
        "video": str(job.video),
        "device": describe_device(animator.models.device),
        "versions": versions(),
    }
    logger.info("Cold and warm passes of %s, %d frames:\n%s", job.video.name, report["frames"], table(report))
    write_json(folder / f"{NAME}.json", report)
    draw_chart(folder / f"{NAME}.png", report)
    logger.info("Written: %s and .png", folder / f"{NAME}.json")
    return 0


def run_pass(animator: Animator, job: Job, kind: str) -> Pass:
    """Makes the result once, with nothing remembered but networks, detector and what the cache's folder holds."""
    forget_content_hashes()
    animator.clips.forget_references()
    clock = StageClock(animator.models.device)
    with clock.stage("total"):
        with clock.stage("preprocess"):
            made_from = animator.recipe(job)
            clip = animator.prepare(job)
        with clock.stage("pipeline"):
            animator.write(clip, animator.sampler.sample(clip), made_from)
    logger.info("%s: preprocess %.3f s, total %.3f s", kind, clock.seconds["preprocess"], clock.seconds["total"])
    levels = statistics_record(animator.features.cache.statistics)
    return Pass(kind, clock.seconds, levels, clip.num_frames, sha256_file(job.output))


def summarise(passes: list[Pass]) -> dict:
    """Medians with the least and the greatest value, and ratios taken pair by pair."""
    cold, warm = ([p for p in passes if p.kind == kind] for kind in ("cold", "warm"))
    ratios = {
        stage: spread([c.seconds[stage] / w.seconds[stage] for c, w in zip(cold, warm, strict=True)])
        for stage in STAGES
    }
    return {
        "frames": passes[0].frames,
        "repeats": len(cold),
        "same_mp4_every_time": len({p.output_sha256 for p in passes}) == 1,
        "seconds": {
            kind: {stage: spread([p.seconds[stage] for p in group]) for stage in STAGES}
            for kind, group in (("cold", cold), ("warm", warm))
        },
        "cold_over_warm": ratios,
        "levels": {level: _level_summary(level, cold, warm) for level in cold[0].levels},
        "passes": [{"kind": p.kind, "seconds": p.seconds, "levels": p.levels} for p in passes],
    }


def _level_summary(level: str, cold: list[Pass], warm: list[Pass]) -> dict:
    computed, read = [p.levels[level] for p in cold], [p.levels[level] for p in warm]
    return {
        "compute_seconds": spread([numbers["miss_seconds"] for numbers in computed]),
        "read_seconds": spread([numbers["hit_seconds"] for numbers in read]),
        "bytes": computed[0]["bytes_written"],
        "hits_of_warm_pass": read[0]["hits"],
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def table(report: dict) -> str:
    """The report as text: stages, then levels; seconds as median (least-greatest)."""
    lines = [f"{'':16}{'cold s':>26}{'warm s':>26}{'cold / warm':>26}"]
    for stage in STAGES:
        cold, warm = (report["seconds"][kind][stage] for kind in ("cold", "warm"))
        ratio = report["cold_over_warm"][stage]
        lines.append(f"{stage:16}{_text(cold)}{_text(warm)}{_text(ratio, 1)}")
    lines.append(f"{'level':16}{'computing s':>26}{'reading s':>26}{'bytes':>16}{'hits':>10}")
    for level, numbers in report["levels"].items():
        times = f"{_text(numbers['compute_seconds'])}{_text(numbers['read_seconds'])}"
        lines.append(f"{level:16}{times}{numbers['bytes']:16,d}{numbers['hits_of_warm_pass']:10d}")
    same = "the same in every pass" if report["same_mp4_every_time"] else "NOT the same in every pass"
    return "\n".join([*lines, f"The mp4 is {same}."])


def _text(numbers: dict[str, float], digits: int = 4) -> str:
    low, middle, high = (f"{numbers[name]:.{digits}f}" for name in ("min", "median", "max"))
    return f"{f'{middle} ({low}-{high})':>26}"


def draw_chart(path: Path, report: dict) -> None:
    """Writes a bar chart of stages and levels as PNG, seconds on a logarithmic axis, whiskers from least to greatest.

    Raises: SetupError when the file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cold = [report["seconds"]["cold"][stage] for stage in STAGES]
    warm = [report["seconds"]["warm"][stage] for stage in STAGES]
    cold += [numbers["compute_seconds"] for numbers in report["levels"].values()]
    warm += [numbers["read_seconds"] for numbers in report["levels"].values()]
    names = [*STAGES, *report["levels"]]
    figure, axes = plt.subplots(figsize=(10, 5), layout="constrained")
    for offset, values, label in ((-0.2, cold, "cold: computed"), (0.2, warm, "warm: read from the cache")):
        medians = [value["median"] for value in values]
        whiskers = [[v["median"] - v["min"] for v in values], [v["max"] - v["median"] for v in values]]
        places = [place + offset for place in range(len(names))]
        bars = axes.bar(places, medians, 0.4, yerr=whiskers, capsize=3, label=label)
        axes.bar_label(bars, [f"{median:.3g}" for median in medians], padding=2)
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.set_xticks(range(len(names)), [name.replace("_", "\n") for name in names])
    axes.axvline(len(STAGES) - 0.5, color="grey", linewidth=0.8)
    axes.set_ylabel("seconds")
    ratio = report["cold_over_warm"]["preprocess"]["median"]
    axes.set_title(f"{report['frames']} frames, {report['repeats']} pairs: preprocess {ratio:.0f} times faster warm")
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)
