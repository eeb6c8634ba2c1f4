"""`.pt` files: they come back as they were, and hostile or damaged ones are refused with their name."""

import os
import pickle
import random
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mimicmotion.errors import InputError
from mimicmotion.feature_cache.safe_pt import load_pt, save_pt

CONTENT = {"numbers": torch.arange(24, dtype=torch.float16).reshape(2, 3, 4), "facts": {"name": "a", "sizes": [1, 2]}}


@pytest.fixture
def saved(tmp_path):
    save_pt(tmp_path / "clip.pt", CONTENT)
    return tmp_path / "clip.pt"


def refused(path, **arguments):
    with pytest.raises(InputError) as caught:
        load_pt(path, **arguments)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mapped", [False, True])
def test_content_comes_back(saved, mapped):
    content = load_pt(saved, mapped=mapped)
    assert torch.equal(content["numbers"], CONTENT["numbers"])
    assert content["numbers"].dtype == torch.float16
    assert content["facts"] == CONTENT["facts"]


def test_equal_content_gives_equal_bytes(saved, tmp_path):
    save_pt(tmp_path / "other.pt", CONTENT)
    assert saved.read_bytes() == (tmp_path / "other.pt").read_bytes()


def test_a_view_stores_only_itself(tmp_path):
    save_pt(tmp_path / "view.pt", {"numbers": torch.zeros(1000, 1000)[:, :2].t()})
    assert (tmp_path / "view.pt").stat().st_size < 20_000
    assert load_pt(tmp_path / "view.pt")["numbers"].shape == (2, 1000)


@pytest.mark.parametrize("value", [np.float32(1), np.zeros(2), object(), {1: "a"}, b"bytes"])
def test_what_could_not_be_read_is_not_written(tmp_path, value):
    with pytest.raises(TypeError):
        save_pt(tmp_path / "clip.pt", {"value": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"<html>", b"\0" * 4096, b"\x1f\x8b" + b"x" * 100])
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "clip.pt").write_bytes(content)
    refused(tmp_path / "clip.pt")


def test_missing_files_folders_and_pipes_are_refused(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    refused(tmp_path / "pipe.pt")
    refused(tmp_path)


@pytest.mark.parametrize("kept", [0.5, 0.999])
def test_truncated_files_are_refused(saved, kept):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * kept)])
    refused(saved)


def test_every_flipped_bit_of_a_tensor_is_seen(saved):
    data = bytearray(saved.read_bytes())
    start = bytes(data).index(CONTENT["numbers"].numpy().tobytes())
    for place in range(start, start + CONTENT["numbers"].nbytes, 7):
        flipped = bytearray(data)
        flipped[place] ^= 1
        saved.write_bytes(flipped)
        assert "checksum" in refused(saved)


class Malice:
    """Touches a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("raw", [False, True])
def test_code_in_a_file_is_not_run(tmp_path, raw):
    path, marker = tmp_path / "clip.pt", tmp_path / "marker"
    if raw:
        path.write_bytes(pickle.dumps({"numbers": Malice(marker)}))
    else:
        torch.save({"numbers": Malice(marker)}, path)
    refused(path)
    assert not marker.exists()


def test_a_tensor_that_repeats_one_number_is_refused(tmp_path):
    giant = torch.zeros(1, dtype=torch.float16).as_strided((10**6, 10**3, 10**3), (0, 0, 0))
    torch.save({"numbers": giant}, tmp_path / "clip.pt")
    assert "claims the shape" in refused(tmp_path / "clip.pt")


def test_compressed_and_oversized_files_are_refused(saved, tmp_path):
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    assert "compressed" in refused(packed)
    assert "accepted" in refused(saved, max_bytes=100)


@pytest.mark.parametrize("content", [[1, 2], {"a": torch.zeros(2, 3).t()}, {"a": {1: 2}}, {"a": {1, 2}}])
def test_other_structures_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "clip.pt")
    refused(tmp_path / "clip.pt")


def test_mapped_tensors_survive_that_their_file_is_replaced(saved):
    before = load_pt(saved, mapped=True)["numbers"]
    save_pt(saved, {"numbers": torch.zeros(5)})
    assert torch.equal(before, CONTENT["numbers"])


def test_no_pickle_is_ever_trusted():
    source = subprocess.run(
        ["grep", "-rn", "weights_only=False", "mimicmotion", "scripts"], cwd=Path(__file__).parents[2],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (source.returncode, source.stdout) == (1, "")  # 1: searched, nothing found


def test_a_size_claim_allocates_nothing(tmp_path):
    giant = torch.zeros(1, dtype=torch.float16).as_strided((10**6, 10**3, 10**3), (0, 0, 0))
    torch.save({"numbers": giant}, tmp_path / "clip.pt")
    code = (
        "import sys\nfrom mimicmotion.feature_cache import load_pt\nfrom mimicmotion.errors import InputError\n"
        "try:\n    load_pt(sys.argv[1])\nexcept InputError:\n    sys.exit(7)\n"
    )
    limit = 8 * 2**30
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "clip.pt")],
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode == 7


def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(tmp_path):
    content = {"latents": torch.arange(200.0).half(), "metadata": {"seed": 3, "name": "clip", "fps": 15.0}}
    save_pt(tmp_path / "whole.pt", content)
    whole, draw = (tmp_path / "whole.pt").read_bytes(), random.Random(0)
    noticed = 0
    for place in draw.sample(range(len(whole)), 300):
        broken = bytearray(whole)
        broken[place] ^= 1 << draw.randrange(8)
        (tmp_path / "flipped.pt").write_bytes(broken)
        try:
            found = load_pt(tmp_path / "flipped.pt")
        except InputError:
            noticed += 1
            continue
        assert torch.equal(found["latents"], content["latents"]) and found["metadata"] == content["metadata"]
    assert noticed > 150
