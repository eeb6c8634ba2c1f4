"""Sessions made again from their logs, and saved ones whose video becomes whole: the same bytes, or a word why not."""

import dataclasses
import json

import pytest

from mimicmotion.errors import InputError, MimicMotionError, UsageError
from mimicmotion.streaming import read_log
from mimicmotion.streaming import run as run_module
from mimicmotion.streaming.run import run_causal, run_streaming
from tests.streaming.micro import make_generator
from tests.streaming.test_play import count, names
from tests.streaming.test_run import settings as all_settings  # noqa: F401
from tests.streaming.test_run import type_in, world  # noqa: F401


@pytest.fixture(autouse=True)
def one_generator(generator, monkeypatch):
    """Runs load nothing; the micro generator is that of the micro world but for its weights."""
    monkeypatch.setattr(run_module, "create_generator", lambda *_: generator)


@pytest.fixture
def settings(all_settings):  # noqa: F811
    """Without the page of all results; read once, since that and the page take longer than these sessions."""
    base = all_settings()
    base.output.page = False

    def make(**streaming):
        return dataclasses.replace(base, streaming=dataclasses.replace(base.streaming, **streaming))

    return make


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def videos(out, stem):
    return [(out / f"{stem}{suffix}.mp4").read_bytes() for suffix in ("", "_icon")]


def rewrite(path, number, **changes):
    lines = path.read_text().splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | changes)
    path.write_text("\n".join(lines) + "\n")


def test_a_typed_session_is_made_again_by_its_log(settings, out, monkeypatch):
    type_in(monkeypatch, "", "W L*5", "J", "n", "n")
    assert run_streaming(settings(seed=3, fps=15)) == 0
    log, typed = out / "first_frame.session.jsonl", videos(out, "first_frame")
    assert json.loads((out / "first_frame.json").read_text())["session_log"] == log.name
    assert run_streaming(settings(replay=str(log))) == 0
    assert videos(out, "first_frame-002") == typed
    assert (out / "first_frame-002.session.jsonl").read_text() == log.read_text()
    assert run_causal(settings(replay=str(log))) == 0
    assert videos(out, "demo") == typed
    record = json.loads((out / "demo.json").read_text())
    assert (record["seed"], record["begun_from"]["path"]) == (3, str(log))
    for actions in (log, out / "first_frame.json"):
        run_causal(settings(actions=str(actions), seed=3, fps=15, num_latents=6))
    assert videos(out, "demo-002") == videos(out, "demo-003") == typed


def test_an_interrupted_session_leaves_its_log(settings, out, monkeypatch):
    type_in(monkeypatch, "", "W", "A", KeyboardInterrupt())
    assert run_streaming(settings()) == 130
    assert len(read_log(out / "first_frame.session.jsonl").blocks) == 2
    type_in(monkeypatch, "")
    run_streaming(settings())
    assert "first_frame-002.session.jsonl" not in names(out), "a session without a frame leaves nothing"
    for path in out.glob("*.mp4"):
        path.unlink()
    run_streaming(settings(actions="S*9"))
    assert len(read_log(out / "first_frame.session.jsonl").blocks) == 2, "a log alone is not written over either"
    assert count(out / "first_frame-002.mp4") == 9


def test_frames_that_are_others_are_told(settings, out, caplog):
    run_causal(settings(actions="W*21"))
    rewrite(out / "demo.session.jsonl", 2, frames_sha256="0" * 64)
    assert run_causal(settings(replay=str(out / "demo.session.jsonl"))) == 1
    assert "1 of 2 blocks, from block 1 on" in caplog.text
    assert json.loads((out / "runs.jsonl").read_text().splitlines()[-2])["status"] == "failed"
    assert run_streaming(settings(replay=str(out / "demo.session.jsonl"))) == 1
    (out / "later.session.jsonl").write_text((out / "demo-002.session.jsonl").read_text().replace("frames_sha256", "x"))
    assert run_streaming(settings(replay=str(out / "later.session.jsonl"))) == 0
    assert "does not say what its frames were" in caplog.text


def test_a_resumed_session_has_the_video_of_one_that_never_stopped(settings, out, tmp_path):
    walk = "W*9 L*12 W+J*12 A*12 I*12"
    run_streaming(settings(actions=walk, max_latents=15, seed=2))
    state = tmp_path / "walk.safetensors"
    run_streaming(settings(actions="W*9 L*12", seed=2, save_state=str(state)))
    run_streaming(settings(actions="WJ*12", resume_from=str(state), save_state=str(state)))
    assert count(out / "walk.mp4") == 12
    run_streaming(settings(actions="A*12 I*12", resume_from=str(state), whole=True))
    assert videos(out, "walk-002") == videos(out, "first_frame")
    record = json.loads((out / "walk-002.json").read_text())
    assert (record["seed"], record["frames"], record["begun_from"]["first_latent"]) == (2, 57, 0)
    # The log is of the whole session too, and so is what is made of it.
    whole, logs = read_log(out / "first_frame.session.jsonl"), ("walk-002", "walk")
    found = [read_log(out / f"{stem}.session.jsonl") for stem in logs]
    assert [len(log.blocks) for log in found] == [5, 3]
    assert [block.frames_sha256 for block in found[0].blocks] == [block.frames_sha256 for block in whole.blocks]
    run_streaming(settings(replay=str(out / "walk-002.session.jsonl")))
    assert videos(out, "walk-002-002") == videos(out, "first_frame")
    # A log that is named serves as well as the one beside the state.
    named = str(out / "walk.session.jsonl")
    (tmp_path / "walk.safetensors.session.jsonl").unlink()
    run_streaming(settings(actions="A*12 I*12", resume_from=str(state), whole=True, session_log=named))
    assert videos(out, "walk-003") == videos(out, "first_frame")


def test_a_whole_video_with_a_seam_is_not_made(settings, out, tmp_path):
    state = tmp_path / "walk.safetensors"
    run_streaming(settings(actions="W*9 L*12", save_state=str(state)))
    rewrite(tmp_path / "walk.safetensors.session.jsonl", 1, frames_sha256="0" * 64)
    with pytest.raises(MimicMotionError, match=r"latent 0.*seam"):
        run_streaming(settings(actions="W*12", resume_from=str(state), whole=True))
    assert not list(out.glob("walk*"))


def test_a_saved_session_without_its_log_goes_on_and_is_made_again_from_its_state(settings, out, tmp_path, caplog):
    state, beside = tmp_path / "walk.safetensors", tmp_path / "walk.safetensors.session.jsonl"
    run_streaming(settings(actions="W*9", save_state=str(state)))
    other = beside.read_text()
    run_streaming(settings(actions="L*9", save_state=str(state)))
    beside.write_text(other)
    run_streaming(settings(actions="A*12", resume_from=str(state)))
    assert "is not the log of the session" in caplog.text
    log = out / "walk.session.jsonl"
    assert read_log(log).header.first_latent == 3
    with pytest.raises(InputError, match="is not the log"):
        run_streaming(settings(actions="A*12", resume_from=str(state), whole=True))
    with pytest.raises(UsageError, match="--resume_from"):
        run_streaming(settings(replay=str(log)))
    with pytest.raises(UsageError, match="make it again with inference_streaming"):
        run_causal(settings(replay=str(log), resume_from=str(state)))
    assert run_streaming(settings(replay=str(log), resume_from=str(state))) == 0
    assert videos(out, "walk-002") == videos(out, "walk")
    later = tmp_path / "later.safetensors"
    run_streaming(settings(actions="A*12", resume_from=str(state), save_state=str(later)))
    with pytest.raises(UsageError, match="begins at latent 3"):
        run_streaming(settings(actions="A*12", resume_from=str(later), whole=True))
    with pytest.raises(UsageError, match="another state"):
        run_streaming(settings(replay=str(log), resume_from=str(later)))


@pytest.fixture
def log(settings, out):
    run_causal(settings(actions="W*9"))
    return out / "demo.session.jsonl"


@pytest.mark.parametrize("run", [run_causal, run_streaming])
@pytest.mark.parametrize(
    "changes, words",
    [
        ({"actions": "W*9"}, "leave out --actions"), ({"seed": 5}, "leave out --seed"),
        ({"num_latents": 6, "max_latents": 6}, "1 blocks, and 2 are asked for"),
    ],
)  # fmt: skip
def test_what_a_log_says_is_not_said_twice(settings, log, monkeypatch, run, changes, words):
    monkeypatch.setattr(run_module, "create_generator", lambda *_: pytest.fail("loaded"))
    with pytest.raises(UsageError, match=words):
        run(settings(replay=str(log), **changes))


def test_flags_of_a_saved_session_belong_to_one(settings, log):
    for given in ({"whole": True}, {"session_log": str(log)}):
        with pytest.raises(UsageError, match="belongs to --resume_from"):
            run_streaming(settings(**given))
    with pytest.raises(UsageError, match="leave out --resume_from"):
        run_streaming(settings(replay=str(log), resume_from=str(log)))
    with pytest.raises(UsageError, match=r"--img_path|leave out"):
        config = settings(replay=str(log))
        config.streaming.image = str(log)
        run_streaming(config)


def test_what_cannot_be_made_again_is_refused_before_anything_is_loaded(settings, log, monkeypatch):
    monkeypatch.setattr(run_module, "create_generator", lambda *_: pytest.fail("loaded"))
    text = log.read_text()
    for changed, error, words in (
        (text.replace('"size": [16, 32]', '"size": [16, 33]'), InputError, "line 1"),
        (text.replace('"frames_per_block": 3', '"frames_per_block": 1'), InputError, "line 2"),
        (text[:-30], InputError, "cut off"),
        (text.splitlines()[0] + '\n{"end": 0}\n', UsageError, "without a block"),
    ):
        log.write_text(changed)
        with pytest.raises(error, match=words):
            run_causal(settings(replay=str(log)))
    with pytest.raises(UsageError, match="does not exist"):
        run_causal(settings(replay=str(log) + "x"))


def test_another_generator_is_refused(settings, log, monkeypatch):
    monkeypatch.setattr(run_module, "create_generator", lambda *_: make_generator(steps=(1000,)))
    for run in (run_causal, run_streaming):
        with pytest.raises(UsageError, match="other weights, steps or precision"):
            run(settings(replay=str(log)))
