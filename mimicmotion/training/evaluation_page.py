"""doc/embedded_model.md: what the embedded model is, how it was trained, and how good it is, from the numbers alone."""

from dataclasses import dataclass
from pathlib import Path

from mimicmotion.files import write_bytes
from mimicmotion.training.model_facts import command

# Measure -> heading and decimals of its column.
COLUMNS = {
    "psnr": ("PSNR", 2),
    "psnr_box": ("PSNR, box", 2),
    "ssim": ("SSIM", 3),
    "ssim_box": ("SSIM, box", 3),
    "st_lpips": ("ST-LPIPS", 4),
    "gradient_histogram": ("gradient histograms", 4),
    "temporal": ("temporal", 2),
    "sharpness": ("sharpness", 3),
    "pose_error": ("pose, %", 2),
    "seconds": ("s / clip", 2),
}
READER_LIMIT = 1.5  # % of body height on true frames: half of the strictest limit that it has to judge

PAGE = """\
# The embedded model

`assets/models/tiny` holds a MimicMotion of {megabytes:.1f} MB that was really trained, so that every script shows
something true on a laptop without a GPU or a download: a person in the reference picture performs the motion of the
driving poses. The networks are the classes of the published model at a small size (UNetSpatioTemporalConditionModel,
PoseNet, CLIPVisionModelWithProjection; the VAE is an AutoencoderTiny), and the folder is laid out as the published one.
Its native size is {width} x {height} pixels, tiles of 16 frames, 15 frames per second.

{parts}

It was trained on drawn people only. Photographs, other sizes and several people are outside of what it has seen; it
shows that the code is right and how its settings compare, not what the published weights can do.

## The data

`mimicmotion/puppets` draws articulated people with exact keypoints, each clip from one seed: skin, hair, clothes,
build, distance and background of the person, and a motion such as walking, waving, signing, dancing or crouching.
Training uses the seeds below 1 000 000, evaluation the seeds from there on. Frame 0 of a clip is the reference, the
same person at another moment; the other {driving} frames are the driving ones. Poses come from the renderer, drawn with
confidence as the detector's poses are.

## Training

<!-- needs: minutes -->

{commands}
    python scripts/train_tiny.py evaluate

{runs}

The stages: the VAE; the image encoder, taught to name colours and clothes; UNet and PoseNet together, with SVD's noise
distribution and v-prediction, conditions dropped now and then for guidance, and hands and face weighted up where their
confidence is high (MimicMotion, arXiv 2406.19680), each time first on single pictures without the temporal layers, as
SVD was, then on clips; the LoRA for few steps by consistency distillation (AnimateLCM, arXiv 2402.00769), with steps of
the teacher over 5 of the 40 levels, as so short a training needs; the VAE's decoder once more, for sharper edges, which
leaves the latents as they are. `reader` trains the instrument that poses are measured with. Any of them goes on where
it was stopped.

## Measured

{clips} validation clips of {frames} frames, people and motions that were never trained on, sampled by the same code
as `inference_raw_batch_turbo.py` with seed {seed}. Means over the clips of all frames but the reference:

{table}

* **PSNR** (dB) and **SSIM** (luma, 11 pixel window) of the whole frame, and of the box around the person.
* {perceptual}
* **gradient histograms**: distance of colour and of gradient histograms in windows of 8 pixels at three scales; a
  computed measure that needs no weights. 0 is equal.
* **temporal**: mean absolute error of the change from frame to frame, grey levels.
* **sharpness**: gradient energy in the person's box over the truth's. 1 is right, less is blurred, more is noise.
* **pose**: distance of body joints to those of the driving pose, over the joints that are seen, in % of the height of
  the standing person, also where the frame shows half of it. The joints are found by a small network that reads drawn
  people (`mimicmotion/puppets/pose_reader.py`). {validity}
* **s / clip**: seconds for one clip on {device}, decoding included, with {torch_version}.

PSNR and SSIM reward blur: where a model is unsure, the mean of all possibilities scores best. Turbo is therefore judged
by perceptual distance, sharpness and pose.

### What was asked for

{figures}

{verdict}

{room}

![The same moments in every way]({stem}.png)

![Measures over the number of steps]({stem}_steps.png)

Every number, clip by clip, is in `evaluation.json` of the output folder. The page is written by
the last of the commands above.
"""


@dataclass(frozen=True)
class Figure:
    """Something asked for: what, the value measured (None where it was not), and the range it should lie in."""

    what: str
    measured: float | None
    low: float | None = None
    high: float | None = None

    @property
    def reached(self) -> bool | None:
        """None where it was not measured."""
        if self.measured is None:
            return None
        return (self.low is None or self.measured >= self.low) and (self.high is None or self.measured <= self.high)

    @property
    def wanted(self) -> str:
        """The range in words."""
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


def figures(means: dict[str, dict[str, float]]) -> list[Figure]:
    """All that was asked for, from the means by way and measure; ways and measures may be absent."""

    def of(way: str, name: str) -> float | None:
        return means.get(way, {}).get(name)

    def both(one: float | None, other: float | None, combine) -> float | None:
        return None if one is None or other is None else combine(one, other)

    def ratio(one: str, other: str) -> float | None:
        return both(of(one, "st_lpips"), of(other, "st_lpips"), lambda a, b: a / b)

    gain = both(of("euler25", "psnr_box"), of("copy", "psnr_box"), lambda a, b: a - b)
    return [
        Figure("Pose reader on true frames: error, % of body height", of("truth", "pose_error"), high=READER_LIMIT),
        Figure("VAE: PSNR of whole frames, dB", of("vae", "psnr"), low=30),
        Figure("25 steps: PSNR of the box above the copy's, dB", gain, low=4),
        Figure("25 steps: sharpness", of("euler25", "sharpness"), 0.85, 1.15),
        Figure("25 steps: pose error, % of body height", of("euler25", "pose_error"), high=3),
        Figure("4 turbo steps: ST-LPIPS over that of 25 steps", ratio("turbo4", "euler25"), high=1.15),
        Figure("4 turbo steps: ST-LPIPS over that without the LoRA", ratio("turbo4", "turbo4_plain"), high=0.85),
        Figure("4 turbo steps: sharpness", of("turbo4", "sharpness"), 0.8, 1.2),
        Figure("4 turbo steps: pose error, % of body height", of("turbo4", "pose_error"), high=3.5),
    ]


def write_page(path: Path, results: dict) -> None:
    """Writes the page. Raises: SetupError when it cannot be written.

    Args:
        results: as `evaluation.collect` gives them.
    """
    write_bytes(path, page(results, path.stem).encode())


def page(results: dict, stem: str) -> str:
    """The page as Markdown; `stem` names its pictures."""
    means, model = results["means"], results["model"]
    found = figures(means)
    learned = any("st_lpips" in numbers for numbers in means.values())
    return PAGE.format(
        megabytes=sum(part["bytes"] for part in model["parts"].values()) / 1e6,
        height=results["size"][0],
        width=results["size"][1],
        parts=parts_table(model["parts"]),
        driving=results["frames"] - 1,
        commands=commands(model["runs"]),
        runs=runs_table(model["runs"]),
        clips=len(results["clips"]),
        frames=results["frames"],
        seed=results["seed"],
        table=table(results),
        perceptual=_perceptual(learned),
        validity=_validity(found[0]),
        device=results["device"],
        torch_version=f"torch {results['versions']['torch']}",
        figures=figures_table(found),
        verdict=verdict(found),
        room=room_for_turbo(means),
        stem=stem,
    )


def parts_table(parts: dict[str, dict]) -> str:
    """Parameters and size of the model's parts."""
    lines = [f"| {name} | {facts['parameters']:,} | {facts['bytes'] / 1e6:.2f} |" for name, facts in parts.items()]
    return "\n".join(["| part | parameters | MB |", "|---|---|---|", *lines])


def commands(runs: dict[str, dict]) -> str:
    """The calls that trained the model, a line each."""
    return "\n".join(f"    {command(run['stage'], run['settings'], name)}" for name, run in runs.items())


def runs_table(runs: dict[str, dict]) -> str:
    """What is known of each run."""
    if not runs:
        return "The records of the runs are not there any more."
    lines = [
        f"| {name} | {facts['steps']:,} | {facts['hours']:.2f} | {facts['loss']:.4f} |"
        for name, facts in runs.items()
    ]
    return "\n".join(["| run | steps | hours in steps | loss at the end |", "|---|---|---|---|", *lines])


def table(results: dict) -> str:
    """A row for each way, a column for each measure; trivial entries of the truth are left out."""
    names = [name for name in COLUMNS if any(name in numbers for numbers in results["means"].values())]
    lines = ["| | " + " | ".join(COLUMNS[name][0] for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for way, numbers in results["means"].items():
        kind = results["ways"][way]["kind"]
        cells = [_cell(name, numbers.get(name), kind) for name in names]
        lines.append(f"| {results['ways'][way]['label']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(name: str, value: float | None, kind: str) -> str:
    trivial = (kind == "truth" and name != "pose_error") or (kind == "copy" and name == "seconds")
    return "" if value is None or trivial else f"{value:.{COLUMNS[name][1]}f}"


def figures_table(found: list[Figure]) -> str:
    """What was asked for, what was measured, and whether it was reached."""
    words = {True: "reached", False: "**missed**", None: "not measured"}
    lines = ["| | asked | measured | |", "|---|---|---|---|"]
    for figure in found:
        measured = "" if figure.measured is None else f"{figure.measured:.3g}"
        lines.append(f"| {figure.what} | {figure.wanted} | {measured} | {words[figure.reached]} |")
    return "\n".join(lines)


def verdict(found: list[Figure]) -> str:
    """One sentence: how many were reached, which were not."""
    missed = [figure.what.split(",")[0] for figure in found if figure.reached is False]
    unknown = sum(figure.reached is None for figure in found)
    text = f"{sum(figure.reached is True for figure in found)} of {len(found)} are reached"
    text += f", {unknown} were not measured" if unknown else ""
    return f"{text}." + (f" Missed: {'; '.join(missed)}." if missed else "")


def room_for_turbo(means: dict[str, dict[str, float]]) -> str:
    """What a LoRA for few steps could gain in ST-LPIPS over the same steps without it, and what it did gain."""
    plain = means.get("turbo4_plain", {}).get("st_lpips")
    others = [means.get(way, {}).get("st_lpips") for way in ("vae", "teacher", "turbo4")]
    if plain is None or None in others:
        return "How much the LoRA could gain was not measured: it takes `vae`, `teacher`, `turbo4`, `turbo4_plain`."
    vae, teacher, turbo = (other / plain for other in others)
    above_vae = (turbo - vae) / (1 - vae)
    return (
        "What could be gained, in ST-LPIPS, with 4 turbo steps without the LoRA as 1: there and back through the VAE\n"
        f"alone, which no sampler can pass, is {vae:.2f}; the LoRA's teacher at 10 steps, which it can hardly pass,\n"
        f"is {teacher:.2f}; with the LoRA they are {turbo:.2f}, and {above_vae:.2f} with the VAE's share taken off."
    )


def _perceptual(learned: bool) -> str:
    if not learned:
        return "ST-LPIPS was not measured: its weights were not installed (`pip install -r requirements-evaluate.txt`)."
    return (
        "**ST-LPIPS** (alex, arXiv 2207.13686): distance of deep features, tolerant to small shifts; the weights come\n"
        "  from the package in `requirements-evaluate.txt`. Its numbers are not those of LPIPS. 0 is equal."
    )


def _validity(reader: Figure) -> str:
    if reader.measured is None:
        return "It was not held against true frames in this run."
    state = "so it can judge the limits below" if reader.reached else "which is too much to judge the limits below by"
    return f"On true\n  frames it is off by {reader.measured:.2f} %, {state}."
