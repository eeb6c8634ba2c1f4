import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save

from scripts import download_weights


def content(name: str) -> bytes:
    """What the pretended hub holds under `name`: real files in small, so that they open."""
    if name.endswith((".safetensors", ".pth")):
        return save({"weight": torch.full((4,), float(len(name)))})
    return f"content of {name}".encode()


def sibling(name: str) -> SimpleNamespace:
    """A file as the hub describes it: small ones are not in LFS and have no SHA-256."""
    lfs = SimpleNamespace(sha256=hashlib.sha256(content(name)).hexdigest())
    small = name.endswith((".json", ".md"))
    return SimpleNamespace(rfilename=name, size=len(content(name)), lfs=None if small else lfs)


class Hub:
    """A hub in memory: what `HfApi().model_info` and `hf_hub_download` answer."""

    def __init__(self, monkeypatch):
        import huggingface_hub

        self.fetched, self.error, self.spoil, self.names = [], None, set(), {}
        for source in (source for sources in download_weights.SUBSETS.values() for source in sources):
            self.names.setdefault(source.repo, {"README.md": None}).update(dict.fromkeys(source.files))
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self.download)

    def model_info(self, repo, files_metadata=False):
        assert files_metadata
        if self.error:
            raise self.error
        return SimpleNamespace(sha="revision-1", siblings=[sibling(name) for name in self.names[repo]])

    def download(self, repo, name, revision, local_dir, force_download):
        assert revision == "revision-1"
        path = Path(local_dir) / name
        self.fetched.append((repo, name, force_download))
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content(name)
        path.write_bytes(data[:-1] + b"?" if name in self.spoil else data)
        return str(path)


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    return Hub(monkeypatch)


def run(folder, *arguments):
    return download_weights.main(["--models", str(folder), *arguments])


def test_everything_lands_where_the_config_looks(hub, tmp_path):
    assert run(tmp_path) == 0
    svd = "SVD/stable-video-diffusion-img2vid-xt-1-1"
    for folder, name in (
        (".", "MimicMotion_1-1.pth"),
        ("DWPose", "yolox_l.onnx"),
        ("DWPose", "dw-ll_ucoco_384.onnx"),
        ("AnimateLCM", "AnimateLCM-SVD-xt-1.1.safetensors"),
        (svd, "unet/diffusion_pytorch_model.safetensors"),
        (svd, "vae/diffusion_pytorch_model.safetensors"),
        (svd, "image_encoder/model.safetensors"),
        (svd, "scheduler/scheduler_config.json"),
    ):
        assert (tmp_path / folder / name).read_bytes() == content(name)
    assert not list(tmp_path.rglob("README.md"))


def test_the_layout_is_that_of_the_published_config():
    from omegaconf import OmegaConf

    from mimicmotion.weights.hub import SVD_FOLDER

    config = OmegaConf.load(download_weights.ROOT / "configs" / "mimicmotion.yaml")
    targets = {
        (Path("models") / source.folder / name).as_posix()
        for sources in download_weights.SUBSETS.values()
        for source in sources
        for name in source.files
    }
    assert {config.ckpt_path, config.pose.model_det, config.pose.model_pose} <= targets
    assert config.base_model_path == download_weights.SVD
    assert (SVD_FOLDER / config.base_model_path.split("/")[1] / "vae" / "config.json").as_posix() in targets


def test_only_takes_what_is_named(hub, tmp_path):
    assert run(tmp_path, "--only", "dwpose") == 0
    assert [name for _, name, _ in hub.fetched] == ["yolox_l.onnx", "dw-ll_ucoco_384.onnx"]
    with pytest.raises(SystemExit) as error:
        run(tmp_path, "--only", "dwposse")
    assert error.value.code == 2


def test_what_needs_no_account_asks_no_gated_model(hub, tmp_path):
    gated = {source.repo for sources in download_weights.SUBSETS.values() for source in sources if source.gated}
    assert run(tmp_path, "--only", "ungated", "dwpose") == 0
    names = [name for _, name, _ in hub.fetched]
    assert gated == {download_weights.SVD} and not gated & {repo for repo, _, _ in hub.fetched}
    assert names == ["MimicMotion_1-1.pth", "yolox_l.onnx", "dw-ll_ucoco_384.onnx", "AnimateLCM-SVD-xt-1.1.safetensors"]
    assert f"from {download_weights.SVD}\n      (gated" in download_weights.places()


def test_a_second_run_fetches_only_what_is_missing_or_damaged(hub, tmp_path, capsys):
    assert run(tmp_path) == 0
    hub.fetched.clear()
    assert run(tmp_path) == 0 and hub.fetched == []
    (tmp_path / "DWPose" / "yolox_l.onnx").unlink()
    damaged = tmp_path / "MimicMotion_1-1.pth"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert run(tmp_path) == 0
    fetched = sorted((name, force) for _, name, force in hub.fetched)
    assert fetched == [("MimicMotion_1-1.pth", True), ("yolox_l.onnx", False)]
    assert damaged.read_bytes() == content("MimicMotion_1-1.pth")


def test_a_download_that_differs_from_the_hub_is_an_error(hub, tmp_path, capsys):
    hub.spoil.add("yolox_l.onnx")
    assert run(tmp_path, "--only", "dwpose") == 3
    assert "SHA-256" in capsys.readouterr().err
    assert "DWPose/yolox_l.onnx" not in download_weights.read_manifest(tmp_path)
    assert not list(tmp_path.rglob("*.onnx")), "what is wrong stays under no name"
    hub.spoil.clear()
    assert run(tmp_path, "--only", "dwpose") == 0
    assert not (tmp_path / download_weights.INCOMING).exists()


def test_without_a_network_it_says_so(hub, tmp_path, capsys):
    import httpx2

    hub.error = httpx2.ConnectError("Temporary failure in name resolution")
    assert run(tmp_path) == 3
    words = capsys.readouterr().err
    assert "out of reach" in words and "download_weights.py" not in words


def answered(status):
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError("no", response=httpx2.Response(status, request=httpx2.Request("GET", "https://hub")))


def caused_by(error):
    import huggingface_hub.errors

    try:
        raise huggingface_hub.errors.LocalEntryNotFoundError("an error happened") from error
    except huggingface_hub.errors.LocalEntryNotFoundError as raised:
        return raised


def test_what_the_hub_answers_is_told_as_what_it_is(hub, tmp_path, capsys):
    import httpx2

    cut = httpx2.RemoteProtocolError("peer closed connection without sending complete message body")
    for error, words in (
        (json.JSONDecodeError("Expecting value", "<html>", 0), "no JSON"),
        (answered(500), "HTTP 500"),
        (caused_by(answered(503)), "HTTP 503"),
        (answered(403), "hf auth login"),
        (cut, "broke off"),
        (OSError("Consistency check failed: file should be of size 9 but has size 4"), "broke off"),
        (OSError(28, "No space left on device"), "the disk is full"),
    ):
        hub.error = error
        assert run(tmp_path) == 3
        printed = capsys.readouterr().err
        assert words in printed and "out of reach" not in printed


@pytest.mark.parametrize("content", ["[]", "5", '{"a": 1}', '{"a": {"size": "5"}}', '{"a": {"size": 5, "sha256": []}}',
                                     "[" * 10**5])  # fmt: skip
def test_a_list_of_another_shape_is_named(tmp_path, capsys, content):
    (tmp_path / download_weights.MANIFEST).write_text(content)
    assert run(tmp_path, "--check") == 3
    assert "delete it and fetch again" in capsys.readouterr().err


def test_a_gated_model_says_how_to_get_access(hub, tmp_path, capsys):
    import httpx2
    from huggingface_hub.errors import GatedRepoError

    hub.error = GatedRepoError("gated", response=httpx2.Response(403, request=httpx2.Request("GET", "https://hub")))
    assert run(tmp_path, "--only", "svd") == 3
    message = capsys.readouterr().err
    assert "accept its licence" in message and "hf auth login" in message and download_weights.SVD in message


def test_a_file_that_left_the_hub_is_named(hub, tmp_path, capsys):
    del hub.names["yzd-v/DWPose"]["yolox_l.onnx"]
    assert run(tmp_path, "--only", "dwpose") == 3
    assert "no longer holds yolox_l.onnx" in capsys.readouterr().err and hub.fetched == []


def test_a_full_disk_is_seen_before_the_download(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    assert run(tmp_path) == 3
    assert "use --only or --models" in capsys.readouterr().err and hub.fetched == []


def test_check_needs_no_network_and_sees_every_damage(hub, tmp_path, capsys):
    assert run(tmp_path) == 0
    hub.error, before = AssertionError("asked the hub"), list(hub.fetched)
    assert run(tmp_path, "--check") == 0 and hub.fetched == before
    assert "BAD" not in capsys.readouterr().out
    checkpoint = tmp_path / "MimicMotion_1-1.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1] + b"?")
    (tmp_path / "DWPose" / "yolox_l.onnx").unlink()
    assert run(tmp_path, "--check") == 3
    shown = capsys.readouterr()
    bad = [line for line in shown.out.splitlines() if line.startswith("BAD")]
    assert len(bad) == 2 and "SHA-256" in bad[0] and "missing" in bad[1] and "2 of" in shown.err
    assert run(tmp_path, "--check", "--only", "animatelcm") == 0


def test_check_of_files_that_were_copied_by_hand(tmp_path, capsys):
    (tmp_path / "DWPose").mkdir()
    (tmp_path / "DWPose" / "yolox_l.onnx").write_bytes(b"\x08\x07onnx")
    (tmp_path / "DWPose" / "dw-ll_ucoco_384.onnx").write_text("version https://git-lfs.github.com/spec/v1")
    (tmp_path / "MimicMotion_1-1.pth").write_bytes(b"PK\x03\x04 cut short")
    assert run(tmp_path, "--check", "--only", "dwpose", "mimicmotion") == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ok") and "not known" in lines[0]
    assert "LFS" in lines[1] and "damaged" in lines[2]


def test_a_damaged_list_is_named(hub, tmp_path, capsys):
    assert run(tmp_path, "--only", "dwpose") == 0
    assert json.loads((tmp_path / download_weights.MANIFEST).read_text())["DWPose/yolox_l.onnx"]["size"] == 23
    (tmp_path / download_weights.MANIFEST).write_text("{")
    assert run(tmp_path, "--check") == 3
    assert download_weights.MANIFEST in capsys.readouterr().err


def test_a_mirror_is_named_and_its_word_is_no_publication(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "https://user:secret@mirror.example/")
    assert run(tmp_path, "--only", "dwpose") == 0
    monkeypatch.delenv("HF_ENDPOINT")
    assert run(tmp_path, "--only", "mimicmotion") == 0
    assert run(tmp_path, "--only", "dwpose", "mimicmotion", "--check") == 0
    printed = capsys.readouterr().out
    assert "asking the mirror https://mirror.example;" in printed and "secret" not in printed
    assert [line.split(": ")[1] for line in printed.splitlines()[-3:]] == [
        "as https://mirror.example had it", "as https://mirror.example had it", "as published"
    ]  # fmt: skip
    assert "secret" not in (tmp_path / download_weights.MANIFEST).read_text()


@pytest.mark.parametrize("address", ["", "mirror.example", "ftp://mirror", "https://", "https://a b", "http://[::1"])
def test_a_mirror_without_an_address_is_refused_before_anything_is_asked(hub, tmp_path, monkeypatch, capsys, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert run(tmp_path) == 3 and hub.fetched == []
    assert f"HF_ENDPOINT is {address!r}" in capsys.readouterr().err


def test_a_mirror_that_fails_is_not_called_the_hub(hub, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example:8080")
    for error in (answered(503), answered(404), answered(403), json.JSONDecodeError("Expecting value", "<html>", 0)):
        hub.error = error
        assert run(tmp_path) == 3
        printed = capsys.readouterr().err
        assert "mirror http://mirror.example:8080 (HF_ENDPOINT)" in printed and "the hub" not in printed


def test_help_names_the_ways_around_the_hub_and_every_files_place(capsys):
    with pytest.raises(SystemExit):
        download_weights.main(["--help"])
    shown = capsys.readouterr().out
    assert all(way in shown for way in ("HF_ENDPOINT=https://", "HF_HUB_DISABLE_XET=1", "local copies"))
    for source in (source for sources in download_weights.SUBSETS.values() for source in sources):
        assert f"  {source.folder or '.'}/  from {source.repo}\n" in shown
        assert [name for name in source.files if f"      {name}\n" not in shown + "\n"] == []
