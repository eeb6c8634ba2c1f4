"""Which small decoder a setting stands for; nothing here imports torch.

    full    the model's own VAE
    tiny    the published small decoder, where scripts/download_weights.py puts it
    PATH    a file in the layout of TAEHV (Wan) or TAESDV (Stable Video Diffusion), or for the latter the folder of an
            AutoencoderTiny of diffusers, which decodes each frame by itself
"""

import os
from pathlib import Path

from mimicmotion.errors import SetupError
from mimicmotion.files import sha256_json
from mimicmotion.places import find, looked_for
from mimicmotion.weights.lookup import FETCH, find_weights
from mimicmotion.weights.manifest import weights_sha256
from mimicmotion.weights.model_files import read_json

FULL, TINY = "full", "tiny"
WAN_DECODERS = ("models/taew2_1.safetensors",)
SVD_DECODERS = ("models/taesdv.pth", "models/taesd")  # the first that is there


def find_decoder(name: str, published: tuple[str, ...]) -> Path | None:
    """The file or folder of the small decoder that a setting names; None for the model's own.

    Raises: SetupError when it is not there.
    """
    if name == FULL:
        return None
    candidates = [find(path) for path in (published if name == TINY else (name,))]
    for path in candidates:
        if os.path.exists(path):
            return path
    where = " or ".join(looked_for(path) for path in (published if name == TINY else (name,)))
    remedy = "fetch it with scripts/download_weights.py --only decoders" if name == TINY else FETCH
    raise SetupError(f"decoder not found: {where} does not exist; {remedy}")


def decoder_sha256(name: str, published: tuple[str, ...], anew: bool = False) -> str | None:
    """What names the numbers of the small decoder; None for the model's own. Raises: SetupError as `find_decoder`."""
    path = find_decoder(name, published)
    if path is None or os.path.isfile(path):
        return path and weights_sha256(path, anew)
    return sha256_json([weights_sha256(find_weights(path), anew), read_json(path / "config.json")])
