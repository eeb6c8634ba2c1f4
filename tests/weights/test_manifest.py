"""Weight files are what was noted of them, or that is said before they are used."""

import hashlib
import json
import logging
import os
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mimicmotion.animation.models import Models
from mimicmotion.config import load_config
from mimicmotion.errors import SetupError
from mimicmotion.files import cached_sha256, sealed, sha256_file
from mimicmotion.weights import manifest, note_weights, open_tensors, weights_sha256

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "assets" / "models"


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """The file of remembered hashes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mimicmotion" / "sha256.json"


@pytest.fixture
def weights(tmp_path):
    """A file of weights, noted two folders above."""
    path = tmp_path / "models" / "net" / "unet" / "w.safetensors"
    path.parent.mkdir(parents=True)
    save_file({"a": torch.arange(50.0)}, path)
    (tmp_path / "models" / "weights.json").write_text("{}")
    note_weights(path.parents[1])
    return path


def flip(path, place=-1, keep_dates=False):
    before, content = path.stat(), bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    if keep_dates:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_every_weight_file_of_the_package_is_noted_with_its_hash():
    noted = json.loads((SHIPPED / "weights.json").read_text())
    # What is drawn lies elsewhere.
    patterns = ("*.safetensors", "tiny/**/*.safetensors", "world/*.safetensors", "world_free/*.safetensors")
    files = [path for pattern in patterns for path in SHIPPED.glob(pattern)]
    found = {
        path.relative_to(SHIPPED).as_posix(): {"size": path.stat().st_size, "sha256": sha256_file(path)}
        for path in files
    }
    assert noted == found


@pytest.mark.parametrize("keep_dates", [False, True])
def test_no_flipped_bit_of_noted_weights_goes_unnoticed(weights, keep_dates):
    content, draw = weights.read_bytes(), random.Random(0)
    digest = weights_sha256(weights)
    assert digest == hashlib.sha256(content).hexdigest()
    for _ in range(10):
        flip(weights, draw.randrange(len(content)), keep_dates)
        for use in (weights_sha256, open_tensors, lambda path: weights_sha256(path, anew=True)):
            with pytest.raises(SetupError, match=r"w\.safetensors"):
                use(weights)
        weights.write_bytes(content)
    assert weights_sha256(weights) == digest


def test_a_run_with_damaged_embedded_weights_ends_before_any_work(tmp_path):
    tiny = tmp_path / "models" / "tiny"
    for path in (SHIPPED / "tiny").rglob("*"):
        if path.is_file():
            copy = tiny / path.relative_to(SHIPPED / "tiny")
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (tmp_path / "models" / "weights.json").write_bytes((SHIPPED / "weights.json").read_bytes())
    config = load_config(given={"base_model_path": str(tiny), "turbo.lcm_lora_path": str(tiny / "lcm_lora")})
    assert Models(config).weights
    flip(tiny / "lcm_lora" / "pytorch_lora_weights.safetensors")
    with pytest.raises(SetupError, match="pytorch_lora_weights"):
        _ = Models(config).weights


def test_memory_that_lies_about_a_file_of_the_same_dates_is_found_out_when_the_file_is_read(weights, memory):
    """As after a disk has lost a bit: size and dates are the remembered ones, the content is not."""
    (weights.parents[2] / "weights.json").unlink()
    cached_sha256(weights)
    known = json.loads(memory.read_text())
    flip(weights)
    status = weights.stat()
    entry = known[str(weights)]
    entry |= {"stamp": [status.st_size, status.st_mtime_ns, status.st_ctime_ns]}
    del entry["record_sha256"]
    memory.write_text(json.dumps({str(weights): sealed(entry)}))
    for use in (open_tensors, lambda path: weights_sha256(path, anew=True)):
        with pytest.raises(SetupError, match="known is"):
            use(weights)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[]",
        '{"PATH": null}',
        '{"PATH": {"stamp": STAMP, "sha256": "0000"}}',
        '{"PATH": {"path": "PATH", "stamp": STAMP, "sha256": "0000", "record_sha256": "0000"}}',
        '{"PATH": {"stamp": STAMP}}',
        '{"PATH": {"stamp": STAMP, "sha256": [1]}}',
        '{"PATH": ' + '{"a":' * 900 + "1" + "}" * 900 + "}",
        '{"\\u0000": 1, "' + "x" * 5000 + '": {}}',
    ],
)
def test_whatever_the_memory_of_hashes_holds_the_hash_is_right(weights, memory, text):
    cached_sha256(weights)
    stamp = json.dumps(json.loads(memory.read_text())[str(weights)]["stamp"])
    memory.write_text(text.replace("PATH", str(weights)).replace("STAMP", stamp))
    assert cached_sha256(weights) == sha256_file(weights)
    assert set(json.loads(memory.read_text())) == {str(weights)}


def test_a_folder_in_the_place_of_the_memory_is_no_harm(weights, memory):
    memory.mkdir(parents=True)
    assert cached_sha256(weights) == sha256_file(weights)


def test_changed_content_is_said(weights, caplog):
    (weights.parents[2] / "weights.json").unlink()
    with caplog.at_level(logging.WARNING):
        cached_sha256(weights)
        os.utime(weights)
        cached_sha256(weights)
        assert not caplog.records
        flip(weights)
        cached_sha256(weights)
    assert "has another content" in caplog.text


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[]", "7", '{"net/unet/w.safetensors": 7}', '{"net/unet/w.safetensors": {"sha256": {}}}']
)
def test_a_manifest_of_another_shape_notes_nothing(weights, text):
    (weights.parents[2] / "weights.json").write_text(text)
    assert manifest.noted_sha256(weights) is None
    assert "a" in open_tensors(weights)


def test_weights_are_noted_only_where_a_manifest_is(tmp_path, weights):
    save_file({"a": torch.zeros(3)}, weights)
    note_weights(weights)
    assert "a" in open_tensors(weights)
    (tmp_path / "elsewhere").mkdir()
    save_file({"a": torch.zeros(3)}, tmp_path / "elsewhere" / "w.safetensors")
    note_weights(tmp_path / "elsewhere")
    note_weights(tmp_path / "nowhere")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["w.safetensors"]
