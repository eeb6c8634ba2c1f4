import shutil
from collections import namedtuple

import pytest

from scripts import rehearse_true_size as script

SCALE = 0.05


def test_the_stand_ins_have_the_published_sizes(tmp_path):
    files = script.stand_ins(tmp_path, 1)
    # AnimateLCM's file has 6,098,682,464 bytes, of which 190,136 are the list of names.
    assert files["lcm unet"].size == 6_098_682_464 - 190_136 and len(files["lcm unet"].shapes) == 1428
    assert len(files["mimicmotion"].shapes) == 1428 + 19
    assert 24e9 < sum(file.size for file in files.values()) < 25e9


def test_a_part_runs_on_what_was_made_and_tells_its_stages(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = script.stand_ins(tmp_path, SCALE)
    for name in script.needed(["lcm"]):
        script.make(files[name])
        assert files[name].path.stat().st_size >= files[name].size
    made = {name: files[name].path.stat().st_mtime_ns for name in script.needed(["lcm"])}
    stages = script.measured("lcm", tmp_path, SCALE)
    assert [stage.name for stage in stages] == ["import", "load", "merge the LCM UNet", "sample 1 step", "decode"]
    assert all(stage.peak >= stage.after > 0 and stage.resident > 0 for stage in stages)
    assert len(script.table("lcm", stages).splitlines()) == 6
    for name in made:
        script.make(files[name])  # it is kept
    assert made == {name: files[name].path.stat().st_mtime_ns for name in made}


def test_parts_take_turns_and_leave_no_file_where_none_is_to_be_kept(tmp_path, monkeypatch, capsys):
    """What runs is a stand-in of its own; a file that a later part reads stays until then, as does nothing else."""
    files = script.stand_ins(tmp_path, SCALE)
    there, parts = [], ["turbo", "lora", "lcm", "streaming"]
    kept, dropped = (script.disk_needed(parts, files, keep) for keep in (True, False))
    sizes = {name: file.size for name, file in files.items()}
    assert kept == sum(sizes.values())
    assert dropped == kept - sizes["lora"] - sum(sizes[name] for name in script.needed(["streaming"]))

    class Pool:
        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, work, part, folder, scale):
            there.append((part, {name for name, file in files.items() if file.path.is_file()}))
            return self

        def result(self):
            return []

    def make(file):
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.touch()

    monkeypatch.setattr(script, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(script, "make", make)
    assert script.main([str(tmp_path), "--scale", str(SCALE), "--keep", "off"]) == 0
    assert there == [(part, set(script.needed([part]))) for part in parts]
    assert not any(file.path.is_file() for file in files.values())


@pytest.mark.parametrize("short", ["disk", "memory"])
def test_too_small_a_machine_is_refused_before_anything_is_made(tmp_path, monkeypatch, capsys, short):
    if short == "disk":
        usage = namedtuple("usage", "total used free")(10**6, 0, 10**6)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    else:
        monkeypatch.setattr(script, "memory_line", lambda *_: 10**8)
    assert script.main([str(tmp_path), "--scale", str(SCALE)]) == 3
    assert "--parts" in capsys.readouterr().err
    assert not [*tmp_path.rglob("*.safetensors"), *tmp_path.rglob("*.pth")]


def test_stand_ins_of_another_scale_are_not_mixed(tmp_path, capsys):
    script.stand_ins(tmp_path, SCALE)
    assert script.main([str(tmp_path), "--scale", "0.1"]) == 2
    assert "another folder" in capsys.readouterr().err
