"""Sessions driven by scripted answers: whatever ends them, the finished blocks are on disk."""

import os
import signal

import av
import numpy as np
import pytest

from mimicmotion.cli import interrupts_deferred, interrupts_raised
from mimicmotion.errors import MimicMotionError
from mimicmotion.streaming import SessionLog, header_of
from mimicmotion.streaming.actions import bench_actions, by_block, encode, get_mode
from mimicmotion.streaming.play import Terminal, ask_actions, ask_image, play_batch, play_session
from mimicmotion.streaming.recording import Recording
from mimicmotion.video.writer import VideoWriter


class Script:
    """A terminal that gives `answers` in turn; an exception among them is raised, and then the input ends."""

    def __init__(self, *answers, questions="one"):
        self.answers, self.questions, self.said = list(answers), [], []
        self.terminal = Terminal(self.ask, self.said.append, questions=questions)

    def ask(self, question):
        self.questions.append(question)
        answer = self.answers.pop(0) if self.answers else EOFError()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def count(path):
    with av.open(str(path)) as video:
        return sum(1 for _ in video.decode(video=0))


def record(folder, generator):
    return Recording(folder, "walk", generator.mode, 12, 18)


def play(generator, picture, folder, *answers, questions="three", **options):
    script = Script(*answers, questions=questions)
    recording = record(folder, generator)
    end = play_session(generator, generator.start(picture, 0), recording, script.terminal, **options)
    return script, recording, end


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_session_runs_until_n(generator, picture, tmp_path):
    script, recording, end = play(generator, picture, tmp_path, "W A", "L", "", "w", "", "N")
    assert end is None
    assert recording.frames == 21
    assert [count(tmp_path / name) for name in ("walk.mp4", "walk_icon.mp4", "walk_current.mp4")] == [21, 21, 12]
    assert script.questions[2].startswith("Continue? (Press 'n' to break)")
    assert [line for line in script.said if "saved" in line] == [
        f"saved {tmp_path / 'walk_current.mp4'} (9 frames; 9 in all)",
        f"saved {tmp_path / 'walk_current.mp4'} (12 frames; 21 in all)",
    ]
    assert names(tmp_path) == ["walk.mp4", "walk_current.mp4", "walk_icon.mp4"]


def test_typed_keys_are_the_actions(generator, picture, tmp_path):
    frames = []
    recording = record(tmp_path, generator)
    recording.add = lambda images, action: frames.append(images)
    script = Script("W A", "L", "", "", "I", "n", questions="three")
    play_session(generator, generator.start(picture, 0), recording, script.terminal)
    expected = generator.generate(picture, [encode(generator.mode, "WAL"), encode(generator.mode, "I")])
    assert np.array_equal(np.concatenate(frames), expected)


def test_wrong_keys_are_asked_for_again(generator):
    script = Script("X", "w d", "5", "k", questions="three")
    (action,) = ask_actions(generator.mode, script.terminal, 0, 3)
    assert script.questions[0] == script.questions[1] != script.questions[2] == script.questions[3], "told at once"
    assert action.keyboard.tolist() == [[1, 0, 0, 1]]
    assert action.mouse.round(3).tolist() == [[pytest.approx(-0.1), 0]]
    assert sum("no key" in line for line in script.said) == 2


@pytest.mark.parametrize("mode, answer", [("gta_drive", "w a"), ("templerun", "z")])
def test_other_modes_ask_one_question(mode, answer):
    script = Script(answer, questions="three")
    assert [len(action) for action in ask_actions(get_mode(mode), script.terminal, 0, 3)] == [1]
    assert len(script.questions) == 1


@pytest.mark.parametrize(
    "answers, frames",
    [((), 0), (("W",), 0), (("W", "L"), 9), (("W", "L", "", "W"), 9), (("W", "L", "", "W", "L"), 21)],
)
@pytest.mark.parametrize("end", [EOFError, KeyboardInterrupt])
@pytest.mark.parametrize("questions", ["one", "three"])
def test_input_may_end_anywhere(generator, picture, tmp_path, answers, frames, end, questions):
    if questions == "one":
        answers = ("W",) * ((frames + 3) // 12)
    _, recording, ended = play(generator, picture, tmp_path, *answers, end(), questions=questions)
    assert isinstance(ended, end)
    assert recording.frames == frames
    assert (count(tmp_path / "walk.mp4") if frames else 0) == frames
    if not frames:
        assert names(tmp_path) == []


def test_ctrl_c_in_the_middle_of_a_block_keeps_the_blocks_before(generator, picture, tmp_path, monkeypatch):
    forward, calls = generator.model.forward, []

    def interrupt(*args, **kwargs):
        calls.append(1)
        if len(calls) == 8:  # in the third block
            os.kill(os.getpid(), signal.SIGINT)
        return forward(*args, **kwargs)

    monkeypatch.setattr(generator.model, "forward", interrupt)
    actions = by_block(bench_actions(generator.mode, 0), generator.mode)
    script, recording, end = play(generator, picture, tmp_path, actions=actions)
    assert isinstance(end, KeyboardInterrupt)
    assert recording.frames == count(tmp_path / "walk.mp4") == count(tmp_path / "walk_icon.mp4") == 21
    assert script.questions == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("place", ["between the videos", "in the model"])
def test_an_interrupted_session_goes_on_without_a_gap(generator, picture, tmp_path, monkeypatch, name, place):
    whole = generator.generate(picture, [encode(generator.mode, "W")] * 3)
    calls = []
    owner, call, last = (VideoWriter, "write", 4) if place == "between the videos" else (generator.model, "forward", 5)
    original = getattr(owner, call)

    def interrupt(*args, **kwargs):
        calls.append(1)
        if len(calls) == last:  # in the second block
            os.kill(os.getpid(), signal.Signals[name])
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, call, interrupt)
    state, recording, terminal = generator.start(picture, 0), record(tmp_path, generator), Script().terminal
    actions, overlap = iter([encode(generator.mode, "W")] * 3), name != "SIGHUP"
    with interrupts_raised():
        end = play_session(generator, state, recording, terminal, actions, overlap=overlap)
    assert isinstance(end, KeyboardInterrupt)
    frames = count(tmp_path / "walk.mp4")
    assert frames == count(tmp_path / "walk_icon.mp4") == recording.frames == state.frames_done
    assert sum(taken["frames"] for taken in recording.actions_taken) == frames
    generator.save_state(state, tmp_path / "walk.safetensors")
    later = generator.load_state(tmp_path / "walk.safetensors")
    after = generator.step(later, encode(generator.mode, "W"))
    assert np.array_equal(after, whole[frames : frames + len(after)])


def test_prepared_actions_need_no_answers_and_blocks_end_a_session(generator, picture, tmp_path):
    actions = by_block(bench_actions(generator.mode, 0), generator.mode)
    script, recording, end = play(generator, picture, tmp_path, actions=actions, blocks=2)
    assert (end, recording.frames, script.questions) == (None, 21, [])


def test_an_error_leaves_no_video(generator, picture, tmp_path):
    def actions():
        yield encode(generator.mode, "W")
        raise MimicMotionError("broken")

    with pytest.raises(MimicMotionError, match="broken"):
        play_batch(generator, generator.start(picture, 0), record(tmp_path, generator), actions())
    assert names(tmp_path) == []


def test_picture_is_asked_for_until_it_can_be_read(tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    script = Script(str(tmp_path / "c.png"), str(tmp_path / "b.png"), f"  {tmp_path / 'a.png'} ")
    path, image = ask_image(script.terminal, "none.png")
    assert (path.name, image.size) == ("a.png", (8, 8))
    assert len(script.said) == 2
    assert ask_image(Script("").terminal, str(tmp_path / "a.png"))[0].name == "a.png"


def test_ctrl_c_while_the_files_are_completed_waits_for_them(generator, picture, tmp_path, monkeypatch):
    finish = VideoWriter._finish

    def interrupted(writer):
        if writer.path.name == "walk_icon.mp4":
            os.kill(os.getpid(), signal.SIGINT)
        finish(writer)

    monkeypatch.setattr(VideoWriter, "_finish", interrupted)
    state = generator.start(picture, 0)
    with pytest.raises(KeyboardInterrupt):
        play_batch(generator, state, record(tmp_path, generator), [encode(generator.mode, "W")])
    assert count(tmp_path / "walk.mp4") == count(tmp_path / "walk_icon.mp4") == 9


def test_interrupts_wait_for_the_end_and_a_second_does_not():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("first")
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        done.append("second")
    assert done == ["first"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_among_earlier_blocks_leaves_nothing(generator, picture, tmp_path):
    def earlier():
        yield generator.generate(picture, [encode(generator.mode, "W")]), encode(generator.mode, "W")
        raise KeyboardInterrupt

    state, script = generator.start(picture, 0), Script("W", "n")
    with pytest.raises(KeyboardInterrupt):
        play_session(generator, state, record(tmp_path, generator), script.terminal, earlier=earlier())
    assert (names(tmp_path), script.questions, state.start) == ([], [], 0)


def test_a_log_that_cannot_be_written_leaves_the_videos(generator, picture, tmp_path):
    recording, state = record(tmp_path, generator), generator.start(picture, 0)
    recording.log = SessionLog(header_of(generator, 0, 12.0, generator.take_picture(picture)))
    (tmp_path / "walk.session.jsonl").mkdir()
    play_batch(generator, state, recording, [encode(generator.mode, "W")])
    assert count(tmp_path / "walk.mp4") == count(tmp_path / "walk_icon.mp4") == 9
    with pytest.raises(MimicMotionError, match="folder has this name"):
        recording.write_log()
