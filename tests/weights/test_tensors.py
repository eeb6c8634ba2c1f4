import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mimicmotion import files as files_module
from mimicmotion.errors import SetupError
from mimicmotion.weights import hub, lookup
from mimicmotion.weights import tensors as weights

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4)}


class Attack:
    """Unpickling this creates the file `marker`."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def cut(path: Path, size: int) -> None:
    os.truncate(path, size)


WRONG = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "lfs pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid"), "LFS"),
    "web page": (lambda path: path.write_text("\n <!DOCTYPE html><html>log in</html>"), "web page"),
    "text": (lambda path: path.write_text("not found"), "neither"),
    "zeros": (lambda path: path.write_bytes(bytes(4096)), "neither"),
    "truncated zip": (lambda path: (torch.save(STATE, path), cut(path, path.stat().st_size // 2)), "damaged"),
    "one byte short": (lambda path: (torch.save(STATE, path), cut(path, path.stat().st_size - 1)), "damaged"),
    "other zip": (lambda path: zipfile.ZipFile(path, "w").writestr("readme", "hello"), "damaged"),
    "truncated safetensors": (lambda path: (save_file(STATE, path), cut(path, 150)), "whole safetensors"),
    "huge header": (lambda path: path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}"), "whole safetensors"),
    "a tensor": (lambda path: torch.save(torch.ones(3), path), "Tensor, not tensors by name"),
    "a list": (lambda path: torch.save([torch.ones(3)], path), "list, not tensors by name"),
    "nothing": (lambda path: torch.save({}, path), "holds nothing"),
    "a training state": (lambda path: torch.save({"epoch": 3, "model": STATE}, path), "epoch, model"),
    "a module": (lambda path: torch.save(torch.nn.Linear(2, 2), path), "could run code"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_named_with_reason_and_remedy(tmp_path, case):
    path = tmp_path / "MimicMotion_1-1.pth"
    write, reason = WRONG[case]
    write(path)
    with pytest.raises(SetupError) as error:
        weights.open_tensors(path)
    assert str(path) in str(error.value) and reason in str(error.value) and "download_weights.py" in str(error.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_does_not_run(tmp_path, zipped):
    path, marker = tmp_path / "evil.pth", tmp_path / "marker"
    if zipped:
        torch.save({"a": Attack(marker)}, path)
    else:
        path.write_bytes(pickle.dumps({"a": Attack(marker)}))
    with pytest.raises(SetupError, match="could run code"):
        weights.open_tensors(path)
    assert not marker.exists()
    with open(path, "rb") as file:  # the same file does run code where it is trusted
        torch.load(file, weights_only=False) if zipped else pickle.load(file)
    assert marker.exists()


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(SetupError, match="does not exist"):
        weights.open_tensors(tmp_path / "none.pth")
    with pytest.raises(SetupError, match="not a file"):
        weights.open_tensors(tmp_path)


WRITERS = {
    "zip": torch.save,
    "legacy": lambda state, path: torch.save(state, path, _use_new_zipfile_serialization=False),
    "nested": lambda state, path: torch.save({"state_dict": state, "epoch": 1}, path),
    "safetensors": save_file,
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_format_reads_the_same_whatever_the_suffix(tmp_path, writer):
    path = tmp_path / "file.pth"
    WRITERS[writer](STATE, path)
    tensors = weights.open_tensors(path)
    assert tensors.shapes == {"a.weight": torch.Size([2, 3]), "b": torch.Size([4])}
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)
    with pytest.raises(KeyError):
        tensors["c"]


def test_renaming_keeps_the_tensors(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    renamed = weights.open_tensors(tmp_path / "a.safetensors").renamed({"x": "b"})
    assert list(renamed) == ["x"] and torch.equal(renamed["x"], STATE["b"])


def test_shapes_are_compared_before_a_huge_tensor_is_made(tmp_path):
    huge = torch.ones(1).as_strided((10**6, 10**6), (0, 0))
    torch.save({"weight": huge, "bias": torch.ones(2)}, tmp_path / "huge.pth")
    with torch.device("meta"):
        module = torch.nn.Linear(2, 2)
    tensors = weights.open_tensors(tmp_path / "huge.pth")
    with pytest.raises(SetupError, match=r"\(1000000, 1000000\), not \(2, 2\)"):
        weights.assign_weights(module, tensors, torch.device("cpu"), torch.float32, "layer")


def test_find_weights_prefers_full_precision_and_safetensors(tmp_path):
    names = ["diffusion_pytorch_model" + end for end in (".fp16.bin", ".fp16.safetensors", ".bin", ".safetensors")]
    with pytest.raises(SetupError, match="no weights in"):
        lookup.find_weights(tmp_path)
    for name in names:
        (tmp_path / name).touch()
        assert lookup.find_weights(tmp_path).name == name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/name", True),
        ("models/a/b", False),
        ("name", False),
        ("./name", False),
        ("../name", False),
        ("/name", False),
        ("C:\\a/b", False),
    ],
)
def test_hub_ids(name, expected):
    assert hub.is_hub_id(name) is expected


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch):
    """The hub's own address, whatever the tests' terminal has."""
    monkeypatch.delenv("HF_ENDPOINT", raising=False)


@pytest.fixture
def hub_error():
    """Builds the hub client's own HTTP errors."""
    import httpx2
    from huggingface_hub import errors

    def build(name):
        response = httpx2.Response(401, request=httpx2.Request("GET", "https://hub"))
        return getattr(errors, name)("refused", response=response)

    return build


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GatedRepoError", r"gated: accept its licence on \S+owner/model .*hf auth login"),
        ("RepositoryNotFoundError", "neither a local folder nor a model on the hub"),
        ("RemoteEntryNotFoundError", "lacks the file"),
    ],
)
def test_hub_errors_say_how_to_get_access(hub_error, name, message):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fetch(repo, local_files_only=False):
        raise LocalEntryNotFoundError("not cached") if local_files_only else hub_error(name)

    with pytest.raises(SetupError, match=message):
        hub.from_hub("owner/model", fetch)


def test_a_machine_without_a_network_is_told_so():
    import httpx2
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    for error in (LocalEntryNotFoundError("x"), OfflineModeIsEnabled("x"), httpx2.ConnectError("x")):

        def fetch(repo, local_files_only=False, error=error):
            raise LocalEntryNotFoundError("not cached") if local_files_only else error

        with pytest.raises(SetupError, match=r"out of reach.*download_weights.py"):
            hub.from_hub("owner/model", fetch)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("Task error: CAS Client Error: error sending request for url"), "set HF_HUB_DISABLE_XET=1"),
        (RuntimeError("IO error: No space left on device (os error 28)"), "the disk is full"),
        (RuntimeError("tcp connect error: Connection timed out (os error 110)"), "set HF_HUB_DISABLE_XET=1"),
        (ImportError("Using SOCKS proxy, but the 'socksio' package is not installed"), "lacks a package.*socksio"),
        (ConnectionError("no route"), "set HF_ENDPOINT to the address of a mirror, or ask Ann"),
    ],
)
def test_what_keeps_one_from_the_hub_is_told_with_its_remedy(error, words):
    assert isinstance(error, hub.hub_errors())
    assert re.search(words, hub.explain_hub_error("owner/model", error, "or ask Ann"))


def test_a_mirror_is_named_where_the_hub_would_be(hub_error, monkeypatch):
    from huggingface_hub.errors import OfflineModeIsEnabled

    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    for error, words in (
        (hub_error("RepositoryNotFoundError"), "a model on the mirror https://mirror.example "),
        (hub_error("RemoteEntryNotFoundError"), "on the mirror .* lacks the file"),
        (hub_error("GatedRepoError"), f"licence on {hub.HUB}/owner/model .*; the mirror .* sees it"),
        (ConnectionError("no route"), "mirror .* out of reach; set HF_ENDPOINT to the address of another mirror"),
        (OfflineModeIsEnabled("x"), "out of reach; HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: unset it"),
    ):
        assert re.search(words, hub.explain_hub_error("owner/model", error))


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (None, None),
        (hub.HUB, None),
        (f"{hub.HUB}/", None),
        ("http://localhost:8080/hf/", "http://localhost:8080/hf"),
        ("https://me:secret@mirror.example", "https://mirror.example"),
    ],
)
def test_the_address_of_a_mirror(text, address, monkeypatch):
    if text:
        monkeypatch.setenv("HF_ENDPOINT", text)
    assert hub.mirror() == address


def test_the_cache_is_asked_before_the_network(tmp_path):
    calls = []

    def fetch(repo, local_files_only=False):
        calls.append(local_files_only)
        return str(tmp_path)

    assert hub.from_hub("owner/model", fetch) == tmp_path and calls == [True]
    assert hub.from_hub("owner/model", fetch, complete=lambda path: False) == tmp_path
    assert calls == [True, True, False]


def test_hashes_are_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, calls, sha256_file = tmp_path / "w", [], files_module.sha256_file
    monkeypatch.setattr(files_module, "sha256_file", lambda path: calls.append(path) or sha256_file(path))
    file.write_bytes(b"one")
    times = (1_000_000_000, 1_000_000_000)
    os.utime(file, ns=times)
    first = files_module.cached_sha256(file)
    assert files_module.cached_sha256(file) == first == sha256_file(file) and len(calls) == 1
    file.write_bytes(b"two")  # same size, same date
    os.utime(file, ns=times)
    assert files_module.cached_sha256(file) == sha256_file(file) != first


def test_hashing_works_without_a_place_to_remember(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "w").write_bytes(b"one")
    assert len(files_module.cached_sha256(tmp_path / "w")) == 64


def test_a_damaged_memory_of_hashes_is_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "mimicmotion").mkdir()
    (tmp_path / "mimicmotion" / "sha256.json").write_text("[1,")
    (tmp_path / "w").write_bytes(b"one")
    assert files_module.cached_sha256(tmp_path / "w") == files_module.sha256_file(tmp_path / "w")
