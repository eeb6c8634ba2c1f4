"""What becomes of the clips' numbers: means with intervals, JSON with the whole protocol, CSV, a table.

Nothing here knows the time: the same clips measured twice give the same bytes.
"""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mimicmotion.animation import text_table
from mimicmotion.config import Config
from mimicmotion.evaluation.brought import SEGMENT
from mimicmotion.evaluation.instruments import BLOCK, DIGITS, Instruments, rounded
from mimicmotion.files import read_record, write_bytes
from mimicmotion.results import package_versions, versions

FORMAT_VERSION = 1
RESAMPLES, CONFIDENCE, SEED = 2000, 0.95, 0
PACKAGES = ("scipy", "opencv-contrib-python", "av", "imageio-ffmpeg", "pillow", "stlpips-pytorch")
TOLD = ("frames", "size", "sources", "absent", "notes", "computed_on")  # of a clip, beside its numbers
FEW = 50  # vectors; a Frechet distance of fewer says little


@dataclass(frozen=True)
class Measure:
    """One number of a clip. `best` is "low" or "high", or "one" for a ratio that is right at 1."""

    title: str
    unit: str
    best: str
    about: str


MEASURES = {
    "body_distance": Measure("body distance", "% of body height", "low", "18 joints seen against those wanted"),
    "body_px": Measure("body distance", "px", "low", "the same in pixels of the result"),
    "body_missing": Measure("body missing", "share", "low", "expected joints that are not seen"),
    "body_either_side": Measure(
        "body distance, either side", "% of body height", "low", "with left and right exchanged where that is nearer"
    ),
    "sides_swapped": Measure("sides swapped", "share", "low", "frames in which the exchanged sides are nearer"),
    "hand_distance": Measure("hand distance", "% of body height", "low", "2 x 21 points, left against left"),
    "hand_px": Measure("hand distance", "px", "low", "the same in pixels of the result"),
    "hand_missing": Measure("hand missing", "share", "low", "expected points of hands that are not seen"),
    "face_distance": Measure("face distance", "% of body height", "low", "68 points of the face"),
    "face_px": Measure("face distance", "px", "low", "the same in pixels of the result"),
    "face_missing": Measure("face missing", "share", "low", "expected points of the face that are not seen"),
    "clip_reference": Measure("CLIP to reference", "cosine", "high", "image encoder: each frame with the reference"),
    "clip_between": Measure("CLIP between frames", "cosine", "high", "image encoder: each frame with the one before"),
    "csim": Measure("CSIM", "cosine", "high", "ArcFace: faces of the frames with that of the reference"),
    "sharpness_reference": Measure("sharpness over reference", "ratio", "one", "gradient energy over the reference's"),
    "psnr": Measure("PSNR of the clip", "dB", "high", "from the mean squared error of all frames; 100 for equal ones"),
    "psnr_frames": Measure("PSNR per frame", "dB", "high", "mean over frames of each one's, 100 for equal ones"),
    "ssim": Measure("SSIM", "0..1", "high", "luma, Gaussian window of 11 pixels, mean over frames"),
    "st_lpips": Measure("ST-LPIPS", "distance", "low", "shift-tolerant LPIPS (alex), mean over frames"),
    "temporal_difference_error": Measure(
        "temporal change error", "grey levels", "low", "mean absolute error of the change from frame to frame"
    ),
    "sharpness": Measure("sharpness over truth", "ratio", "one", "gradient energy over the truth's"),
}
CORPUS = {"fvd": "FVD", "fid_vid": "FID-VID"}


@dataclass
class Row:
    """One clip: status "measured", "failed" or "not measured", its kept facts but for its features, and where these and
    its strip lie.
    """

    name: str
    kind: str
    status: str = "not measured"
    message: str = ""
    facts: dict = field(default_factory=dict)
    kept: Path | None = None
    strip: Path | None = None

    @property
    def numbers(self) -> dict[str, float | None]:
        """By measure; empty where it was not measured."""
        return self.facts.get("numbers", {})

    def features(self) -> dict:
        """By measure of the whole corpus; read each time, since those of many clips fill a memory."""
        return (read_record(self.kept) or {}).get("features", {}) if self.kept else {}


def mean_of(values: Sequence[float]) -> dict:
    """Mean with its bootstrap interval (percentiles of resampled means), and of how many clips.

    The interval of a single clip, or of equal ones, is no statement about others: None for one clip.
    """
    from scipy.stats import bootstrap

    data = np.asarray(values, np.float64)
    mean, interval = rounded(data.mean()), None
    if len(data) > 1:
        interval = [mean, mean]
    if len(data) > 1 and np.ptp(data) > 0:
        found = bootstrap(
            (data,), np.mean, n_resamples=RESAMPLES, batch=max(1, 10**6 // len(data)), confidence_level=CONFIDENCE,
            method="percentile", rng=np.random.default_rng(SEED),
        ).confidence_interval  # fmt: skip
        interval = [rounded(found.low), rounded(found.high)]
    return {"mean": mean, "interval": interval, "clips": len(data)}


def means(rows: Iterable[Row]) -> dict[str, dict]:
    """The mean of each measure over the clips that have it."""
    rows = [row for row in rows if row.numbers]
    found = {}
    for name in MEASURES:
        values = [row.numbers[name] for row in rows if row.numbers.get(name) is not None]
        if values:
            found[name] = mean_of(values)
    return found


def corpus(rows: Iterable[Row], names: Sequence[str]) -> dict[str, dict]:
    """Distances between all clips and all truths, by measure; features are added up clip by clip.

    Args:
        names: measures of CORPUS that there are networks for.
    """
    from mimicmotion.evaluation.frechet import Moments, frechet_distance

    moments = {name: (Moments(), Moments()) for name in names}
    for row in rows if names else ():
        for name, features in row.features().items():
            for side, moment in zip(("own", "true"), moments[name], strict=True):
                if features[side]:
                    moment.add(np.array(features[side]))
    return {
        name: {"distance": rounded(frechet_distance(own, true)), "segments": own.count, "few": own.count < FEW}
        for name, (own, true) in moments.items()
    }


def protocol(config: Config, instruments: Instruments, absent: dict[str, str]) -> dict:
    """All that somebody else has to know to come to the same numbers."""
    settings, models = config.evaluation, instruments.models
    truth = {"self": "the driving video", "cross": "videos of --truth" if settings.truth else None}[settings.protocol]
    return {
        "protocol": settings.protocol,
        "truth": truth,
        "frames": "every frame of a result; its reference's own frame is no part of it",
        "clip_length": "each result whole; FVD and FID-VID: consecutive segments of "
        f"{SEGMENT} frames without overlap, a shorter rest is left out",
        "stride": "1 in the result; in driving and true videos that of the result's record, unless a true video has as "
        "many frames as the result",
        "resize": "results are never resized; a driving video as truth is made a frame as the reference was (bilinear, "
        "not anti-aliased, then cropped); a true video of another size within 2 % of the aspect by Lanczos (Pillow); "
        "the image encoder sees whole frames squashed to 224 x 224 (anti-aliased bicubic)",
        "crop": "none",
        "colour_range": "RGB, 8 bits, 0..255, as decoded from the mp4, whose compression is part of every number",
        "psnr": "psnr: from the mean squared error over all values of all frames; psnr_frames: mean over frames of "
        "each one's; peak 255; equal pictures count as 100 dB, and no value is above that",
        "ssim": "luma of ITU-R BT.601, Gaussian window of sigma 1.5 over 11 pixels, borders mirrored with the edge "
        "pixel doubled (scipy's reflect), K1 0.01, K2 0.03, range 255; mean over all pixels and frames",
        "keypoints": "wanted: the driving poses fitted to the reference as they are drawn, or for videos without a "
        "record the poses in the truth; expected: confidence above 0.3 and within the frame; seen: confidence above "
        "0.3 in the person followed through the result, nothing bridged; distances are means over all expected points "
        "of a clip that are seen; body height: 90th percentile of neck to hips over 0.29, or of the shoulders over "
        "0.22, of the wanted poses",
        "fvd": "stylegan-v: I3D called with (frames 0..255, rescale, resize, return_features)",
        "fid_vid": "frames in 0..1 resized by area to the network's size; any normalisation is part of the file",
        "csim": "faces of the largest person the detector lists first, aligned by 5 points to 112 x 112, -1..1",
        "mean": f"over clips, each once; intervals of {CONFIDENCE:.0%}: percentiles of {RESAMPLES} bootstrap means, "
        f"seed {SEED}",
        "digits": DIGITS,
        "frames_at_once": BLOCK,
        "pose_backend": models.backend,
        "driving_poses": "files of --pose_folder" if config.pose.backend == "file" else "found by that backend",
        "weights": instruments.hashes,
        "not_measured": instruments.absent | absent,
        "versions": versions() | package_versions(PACKAGES),
    }


def write_json(path: Path, rows: list[Row], stated: dict) -> dict:
    """Writes evaluation.json; what it holds. Raises: SetupError."""
    content = {
        "format_version": FORMAT_VERSION,
        "protocol": stated,
        "measures": {name: {"unit": m.unit, "best": m.best, "about": m.about} for name, m in MEASURES.items()},
        "clips_in_all": len(rows),
        "clips_measured": sum(row.status == "measured" for row in rows),
        "means": means(rows),
        "corpus": corpus(rows, [name for name in CORPUS if name in stated["weights"]]),
        "clips": [
            {
                "name": row.name,
                "kind": row.kind,
                "status": row.status,
                "message": row.message,
                **{name: row.facts[name] for name in TOLD if name in row.facts},
                "numbers": row.numbers,
            }
            for row in rows
        ],
    }
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=True, allow_nan=False) + "\n").encode())
    return content


def write_csv(path: Path, rows: list[Row]) -> None:
    """Writes evaluation.csv, a line per clip. Raises: SetupError."""
    text = io.StringIO()
    names = [name for name in MEASURES if any(row.numbers.get(name) is not None for row in rows)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "kind", "status", "frames", *names, "message"])
    for row in rows:
        numbers = ("" if row.numbers.get(name) is None else row.numbers[name] for name in names)
        writer.writerow([row.name, row.kind, row.status, row.facts.get("frames", ""), *numbers, row.message])
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def table(content: dict) -> str:
    """Means with their intervals, for the terminal."""
    lines = []
    for name, found in content["means"].items():
        measure, interval = MEASURES[name], found["interval"]
        spread = f"{interval[0]:.4g} .. {interval[1]:.4g}" if interval else "-"
        better = {"low": "lower", "high": "higher", "one": "near 1"}[measure.best]
        lines.append((measure.title, measure.unit, f"{found['mean']:.4g}", spread, str(found["clips"]), better))
    for name, found in content["corpus"].items():
        value = "-" if found["distance"] is None else f"{found['distance']:.4g}"
        few = f", fewer than {FEW}" if found["few"] else ""
        lines.append((CORPUS[name], "distance", value, "-", f"{found['segments']} segments{few}", "lower"))
    return text_table(("measure", "unit", "mean", f"{CONFIDENCE:.0%} interval", "clips", "better"), lines)
