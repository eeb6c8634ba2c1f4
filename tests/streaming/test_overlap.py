"""Decoding beside denoising gives the same frames, and a session that can be saved however it ends."""

import os
import signal
import threading

import numpy as np
import pytest

from mimicmotion.cli import interrupts_raised
from mimicmotion.errors import MimicMotionError, UsageError
from mimicmotion.streaming import encode, play_blocks
from tests.conftest import HANG_SECONDS


@pytest.fixture(scope="module")
def actions(generator):
    return [encode(generator.mode, keys) for keys in ("W", "A L", "", "S")]


@pytest.fixture(scope="module")
def expected(generator, picture, actions):
    """The frames of each block, made one after the other."""
    return list(generator.stream(picture, actions))


def interrupt_in(monkeypatch, owner, call, number):
    """Sends Ctrl-C to the process when `owner.call` is called for the `number`th time."""
    calls, original = [], getattr(owner, call)

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, call, interrupted)


def play(generator, state, actions, made):
    for _, frames, after in play_blocks(generator, state, actions):
        made.append(frames)
        state.advance(after)


def test_frames_are_equal_bit_for_bit_and_decoded_in_a_thread(generator, picture, actions, expected, monkeypatch):
    threads, decode = [], generator.vae.decode
    monkeypatch.setattr(generator.vae, "decode", lambda *a: threads.append(threading.current_thread()) or decode(*a))
    state, made = generator.start(picture, 0), []
    play(generator, state, actions, made)
    assert all(np.array_equal(one, other) for one, other in zip(made, expected, strict=True))
    assert threading.main_thread() not in threads
    assert state.frames_done == 45


def test_a_block_is_denoised_while_the_one_before_is_decoded(generator, picture, actions, monkeypatch):
    begun, second = [], threading.Event()
    denoise, decode = generator.denoise_block, generator.vae.decode

    def denoising(*arguments):
        begun.append(1)
        if len(begun) == 2:
            second.set()
        return denoise(*arguments)

    def decoding(*arguments):
        assert second.wait(HANG_SECONDS)
        return decode(*arguments)

    monkeypatch.setattr(generator, "denoise_block", denoising)
    monkeypatch.setattr(generator.vae, "decode", decoding)
    assert len(list(play_blocks(generator, generator.start(picture, 0), actions[:2]))) == 2


@pytest.mark.parametrize(
    "owner, call, number", [("model", "forward", 5), ("vae", "decode", 2)], ids=["while denoising", "while decoding"]
)
def test_a_session_interrupted_anywhere_goes_on(
    generator, picture, actions, expected, tmp_path, monkeypatch, owner, call, number
):
    interrupt_in(monkeypatch, getattr(generator, owner), call, number)
    state, made = generator.start(picture, 0), []
    with pytest.raises(KeyboardInterrupt), interrupts_raised():
        play(generator, state, actions, made)
    assert 0 < len(made) < len(actions)
    generator.save_state(state, tmp_path / "s.safetensors")
    for session in (generator.load_state(tmp_path / "s.safetensors"), state):
        rest = list(made)
        play(generator, session, actions[len(made) :], rest)
        assert all(np.array_equal(one, other) for one, other in zip(rest, expected, strict=True))


def test_an_error_of_the_decoder_comes_out_and_no_broken_session_is_saved(
    generator, picture, actions, tmp_path, monkeypatch
):
    decode, calls = generator.vae.decode, []

    def breaks(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise MimicMotionError("broken")
        return decode(*arguments)

    monkeypatch.setattr(generator.vae, "decode", breaks)
    state, made = generator.start(picture, 0), []
    with pytest.raises(MimicMotionError, match="broken"):
        play(generator, state, actions, made)
    assert len(made) == 1
    with pytest.raises(MimicMotionError, match="cannot be saved"):
        generator.save_state(state, tmp_path / "s.safetensors")
    assert not list(tmp_path.iterdir())


def test_no_action_is_taken_too_many(generator, picture, actions):
    taken = iter(actions)
    made = play_blocks(generator, generator.start(picture, 0), taken)
    next(made)
    made.close()
    assert len(list(taken)) == 2  # one was given, one denoised ahead
    assert list(play_blocks(generator, generator.start(picture, 0), [])) == []


def test_an_action_that_does_not_fit_is_refused_after_the_block_before_it(generator, picture, actions):
    made = play_blocks(generator, generator.start(picture, 0), [actions[0], actions[1].repeat(7)])
    next(made)
    with pytest.raises(UsageError, match="12 frames"):
        next(made)
