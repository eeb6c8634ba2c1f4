"""Files that carry code: whatever they are named and whoever reads them, it does not run."""

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from mimicmotion.dwpose import load_poses
from mimicmotion.errors import MimicMotionError
from mimicmotion.feature_cache import load_pt
from mimicmotion.latent_concat.entries import load_latents
from mimicmotion.latent_steps.step_files import read_step
from mimicmotion.weights import open_tensors


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def saved(write):
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def npz(code):
    def write(file):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("body.npy", saved(lambda member: np.save(member, np.array([code], dtype=object))))

    return saved(write)


DISGUISES = {
    "a pickle": lambda code: pickle.dumps({"latents": code}),
    "a zip of torch": lambda code: saved(lambda file: torch.save({"latents": code}, file)),
    "an old file of torch": lambda code: saved(
        lambda file: torch.save({"latents": code}, file, _use_new_zipfile_serialization=False)
    ),
    "an array of objects": lambda code: saved(lambda file: np.save(file, np.array([code], dtype=object))),
    "the same, packed": lambda code: gzip.compress(saved(lambda f: np.save(f, np.array([code], dtype=object)))),
    "an archive of arrays": npz,
}
READERS = {
    "x.pt": load_pt,
    "latents.pt": load_latents,
    "x.npz": load_poses,
    "step_000.npy.gz": read_step,
    "x.pth": open_tensors,
    "x.bin": open_tensors,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_code_in_a_file_runs(tmp_path, name, disguise):
    path, marker = tmp_path / name, tmp_path / "marker"
    content = DISGUISES[disguise](Code(marker))
    assert str(marker).encode() in (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    path.write_bytes(content)
    with pytest.raises(MimicMotionError, match=name):
        READERS[name](path)
    assert not marker.exists()
