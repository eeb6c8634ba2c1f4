"""Fetches the published weights and verifies them; run again, it continues where it stopped.

python scripts/download_weights.py                   # MimicMotion's; says first how many GB; needs network
python scripts/download_weights.py --only dwpose     # svd mimicmotion animatelcm matrixgame decoders; needs network
python scripts/download_weights.py --only ungated    # all of MimicMotion's that needs no account; needs network
python scripts/download_weights.py --check           # verifies what is there, without a network; needs weights

Stable Video Diffusion is gated: accept its licence on its page on huggingface.co while logged in, then run
`hf auth login` on this machine. `--only svd` leaves its UNet out, which MimicMotion replaces; `--only animatelcm`
brings it, since AnimateLCM's weights are applied as their difference to it. Where you have it already, in whatever
layout, `--base_model_path` takes it, and `--only ungated` brings the rest. `--only decoders` brings the small decoders
that `--decoder tiny` takes. TAESDV, a better one for Stable Video Diffusion, is on no hub: put taesdv.pth of
github.com/madebyollin/taesdv into the folder of the models, and `--decoder tiny` takes it instead of taesd.

Where huggingface.co is out of reach, a mirror can be asked, such as hf-mirror.com:

  export HF_ENDPOINT=https://hf-mirror.com    # asked instead of the hub, by every script
  export HF_HUB_DISABLE_XET=1                 # where the mirror lacks the hub's second store, for large files

A mirror belongs to somebody else. It is sent the token of `hf auth login` or HF_TOKEN, and the hashes that files are
compared with are the mirror's own. The licence of Stable Video Diffusion is accepted on huggingface.co all the same.

Without any of them, use local copies: run this on a machine with access and copy its folder `models` here, or put the
files, from wherever they come, where the list at the end says. `--check` then verifies them without a network: with the
hashes in the copied weights.json, else only that they open. What runs a model asks no network for what lies there.
"""

import argparse
import fnmatch
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimicmotion.cli import HelpFormatter, guarded_console
from mimicmotion.errors import MimicMotionError, SetupError
from mimicmotion.files import require_writable, sha256_file, why_no_file, write_json
from mimicmotion.weights import mirror

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = "weights.json"
INCOMING = ".incoming"  # what is being fetched, and what is known about how far it is
ELSEWHERE = "or run this on a machine with access and copy its folder here; --help says more of both"
SVD = "stabilityai/stable-video-diffusion-img2vid-xt-1-1"
SVD_FOLDER = f"SVD/{SVD.split('/')[-1]}"


@dataclass(frozen=True)
class Source:
    """Files of one model of the hub (`files`, patterns allowed) and the folder below the models' folder they go to."""

    repo: str
    folder: str
    files: tuple[str, ...]
    gated: bool = False


@dataclass(frozen=True)
class RemoteFile:
    """One file as the hub describes it; sha256 is None for small files that are not stored as LFS."""

    name: str
    size: int
    sha256: str | None


SVD_PARTS = (
    "model_index.json",
    "feature_extractor/preprocessor_config.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
)
MIMICMOTION = Source("tencent/MimicMotion", "", ("MimicMotion_1-1.pth",))
DWPOSE = Source("yzd-v/DWPose", "DWPose", ("yolox_l.onnx", "dw-ll_ucoco_384.onnx"))
ANIMATELCM = Source("wangfuyun/AnimateLCM-SVD-xt", "AnimateLCM", ("AnimateLCM-SVD-xt-1.1.safetensors",))
SUBSETS = {
    "svd": (Source(SVD, SVD_FOLDER, SVD_PARTS, gated=True),),
    "mimicmotion": (MIMICMOTION,),
    "dwpose": (DWPOSE,),
    "animatelcm": (
        ANIMATELCM,
        Source(SVD, SVD_FOLDER, ("unet/config.json", "unet/diffusion_pytorch_model.safetensors"), gated=True),
    ),
    # What needs no account; Stable Video Diffusion's VAE and image encoder are still needed beside it.
    "ungated": (MIMICMOTION, DWPOSE, ANIMATELCM),
    "matrixgame": (
        Source(
            "Skywork/Matrix-Game-2.0",
            "Matrix-Game-2.0",
            (
                "base_distilled_model/*",
                "gta_distilled_model/*",
                "templerun_distilled_model/*",
                "Wan2.1_VAE.pth",
                "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
            ),
        ),
    ),
    "decoders": (
        Source("Kijai/WanVideo_comfy", "", ("taew2_1.safetensors",)),
        Source("madebyollin/taesd", "taesd", ("config.json", "diffusion_pytorch_model.safetensors")),
    ),
}
# The streaming world model is a product of its own, small decoders are a choice: fetched only when they are named.
DEFAULT_SUBSETS = ("svd", "mimicmotion", "dwpose", "animatelcm")


@guarded_console()
def main(argv: list[str] | None = None) -> int:
    """Runs the script; returns the exit code."""
    arguments = parse(argv)
    sources = list(dict.fromkeys(source for subset in arguments.only for source in SUBSETS[subset]))
    folder = Path(arguments.models)
    try:
        if arguments.check:
            check(folder, sources)
        else:
            download(folder, sources)
    except MimicMotionError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, epilog=places(), formatter_class=HelpFormatter)
    names, default = tuple(SUBSETS), DEFAULT_SUBSETS
    parser.add_argument("--only", nargs="+", choices=names, default=default, help="subsets")
    models = "folder of the weights (default: models of the repository)"
    parser.add_argument("--models", default=ROOT / "models", metavar="DIR", help=models)
    parser.add_argument("--check", action="store_true", help="verify what is there; needs no network")
    return parser.parse_args(argv)


def places() -> str:
    """Which files of which model belong where, to be read."""
    lines = ["files and their places below --models:"]
    for source in dict.fromkeys(source for sources in SUBSETS.values() for source in sources):
        gated = ["      (gated: needs an account)"] if source.gated else []
        lines += ["", f"  {source.folder or '.'}/  from {source.repo}", *gated]
        lines += [f"      {name}" for name in source.files]
    return "\n".join(lines)


def download(folder: Path, sources: list[Source]) -> None:
    """Fetches and verifies every file of `sources` into `folder` and records sizes and hashes in its weights.json.

    Raises: SetupError without a network or access, on a full disk, and for a file that differs from the hub's.
    """
    # Before huggingface_hub is imported: it fails at once for some of what is no address.
    if address := mirror():
        print(f"asking the mirror {address}; it is sent the hub's token, if there is one")
    from huggingface_hub.utils import disable_progress_bars

    require_writable(folder)
    described = [(source, *describe(source)) for source in sources]
    require_space(folder, described)
    if not sys.stderr.isatty():
        disable_progress_bars()
    for source, revision, files in described:
        for file in files:
            fetch(folder, source, revision, file)
    shutil.rmtree(folder / INCOMING, ignore_errors=True)


def describe(source: Source) -> tuple[str, list[RemoteFile]]:
    """The newest revision and the files of a source, from the hub. Raises: SetupError."""
    from huggingface_hub import HfApi

    from mimicmotion.weights import explain_hub_error, hub_errors

    try:
        info = HfApi().model_info(source.repo, files_metadata=True)
    except hub_errors() as error:
        raise SetupError(explain_hub_error(source.repo, error, ELSEWHERE)) from error
    files = [
        RemoteFile(sibling.rfilename, sibling.size or 0, sibling.lfs.sha256 if sibling.lfs else None)
        for sibling in info.siblings
        if any(fnmatch.fnmatch(sibling.rfilename, pattern) for pattern in source.files)
    ]
    absent = [pattern for pattern in source.files if not fnmatch.filter([file.name for file in files], pattern)]
    if absent:
        raise SetupError(f"{source.repo} no longer holds {', '.join(absent)}; look for its new place on the hub")
    return info.sha, files


def require_space(folder: Path, described: list[tuple[Source, str, list[RemoteFile]]]) -> None:
    """Raises SetupError unless the disk has room for what is still to be fetched."""
    sizes = {
        folder / source.folder / file.name: file.size
        for source, _, files in described
        for file in files
        if not _has_size(folder / source.folder / file.name, file.size)
    }
    needed, free = sum(sizes.values()), shutil.disk_usage(folder).free
    print(f"to fetch: {len(sizes)} files, {needed / 1e9:.2f} GB; free in {folder}: {free / 1e9:.1f} GB")
    if needed > free:
        raise SetupError(f"{folder} needs {needed / 1e9:.1f} GB and has {free / 1e9:.1f} GB; use --only or --models")


def fetch(folder: Path, source: Source, revision: str, file: RemoteFile) -> None:
    """Fetches one file unless it is there and whole. Raises: SetupError."""
    from huggingface_hub import hf_hub_download

    from mimicmotion.weights import explain_hub_error, hub_errors

    path = folder / source.folder / file.name
    if difference(path, file.size, file.sha256):
        damaged = path.exists()
        # On the same disk, so that a file that is verified takes its place in one step.
        incoming = folder / INCOMING / source.folder
        options = {"revision": revision, "local_dir": incoming, "force_download": damaged}
        print(f"fetching {path} ({file.size / 1e6:.1f} MB){', since it differs from the hub' if damaged else ''}")
        try:
            hf_hub_download(source.repo, file.name, **options)
        except hub_errors() as error:
            raise SetupError(explain_hub_error(source.repo, error, ELSEWHERE)) from error
        fetched = incoming / file.name
        problem = difference(fetched, file.size, file.sha256)
        if problem:
            fetched.unlink(missing_ok=True)
            raise SetupError(f"{path}: what came {problem}, and was thrown away; run this again")
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(fetched, path)
    print(f"ok: {path}")
    entry = {"repo": source.repo, "revision": revision, "size": file.size, "sha256": file.sha256}
    record(folder, path, entry | ({"mirror": address} if (address := mirror()) else {}))


def difference(path: Path, size: int, sha256: str | None) -> str | None:
    """How a file differs from what it should be, or None."""
    if not path.is_file():
        return "is missing"
    if path.stat().st_size != size:
        return f"has {path.stat().st_size} bytes, not {size}"
    if sha256 and sha256_file(path) != sha256:
        return "has another SHA-256 than published"
    return None


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def record(folder: Path, path: Path, entry: dict) -> None:
    """Adds a verified file to the list that `--check` verifies against."""
    write_json(folder / MANIFEST, read_manifest(folder) | {path.relative_to(folder).as_posix(): entry})


def read_manifest(folder: Path) -> dict[str, dict]:
    """Relative path -> repo, revision, size, sha256 of the files fetched before."""
    path = folder / MANIFEST
    reason = why_no_file(path)
    if reason == "does not exist":
        return {}
    try:
        if reason:
            raise ValueError(f"it {reason}")
        manifest = json.loads(path.read_text(encoding="utf-8"))
        require_manifest(manifest)
    except (OSError, ValueError, RecursionError) as error:
        raise SetupError(f"cannot read {path}: {error}; delete it and fetch again") from error
    return manifest


def require_manifest(manifest: object) -> None:
    """Raises: ValueError unless it is names -> size and hash."""
    if not isinstance(manifest, dict):
        raise ValueError(f"it holds a {type(manifest).__name__}, not names of files")
    for name, entry in manifest.items():
        known = entry if isinstance(entry, dict) else {}
        if type(known.get("size")) is not int or not isinstance(known.get("sha256", 0), str | None):
            raise ValueError(f"its entry {name!r} has no size and hash")


def check(folder: Path, sources: list[Source]) -> None:
    """Verifies the files of `sources` without a network, one line each.

    Files fetched by this script are compared with the hub's hash; of others it can only be told that they open.

    Raises: SetupError when one is missing or damaged.
    """
    manifest = read_manifest(folder)
    names = dict.fromkeys((Path(source.folder) / name).as_posix() for source in sources for name in source.files)
    bad = 0
    for name in names:
        problem, known = examine(folder / name, manifest.get(name))
        bad += problem is not None
        print(f"{'BAD' if problem else 'ok '} {name}: {problem or known}")
    if bad:
        raise SetupError(f"{bad} of {len(names)} files are missing or damaged; run scripts/download_weights.py")


def examine(path: Path, entry: dict | None) -> tuple[str | None, str]:
    """(what is wrong or None, what is known otherwise) of one file."""
    if entry is not None:
        known = f"as {entry['mirror']} had it" if "mirror" in entry else "as published"
        return difference(path, entry["size"], entry["sha256"]), known
    from mimicmotion.weights import check_head, open_tensors

    try:
        if path.suffix in (".safetensors", ".pth"):
            open_tensors(path)
        else:
            check_head(path)
    except SetupError as error:
        return str(error), ""
    return None, "opens; its published hash is not known here"


if __name__ == "__main__":
    sys.exit(main())
