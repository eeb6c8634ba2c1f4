"""Laws of the measures of worlds, on true videos of the courtyard: truth is right, and what is not is seen."""

import functools

import numpy as np
import pytest

from mimicmotion.evaluation.worlds import SessionMeter, actions_of, find_turns, idle_runs, implied
from mimicmotion.streaming import encode, get_mode, parse_script
from mimicmotion.worlds import get_walk, open_place, render

MODE = "universal"
FREE = get_walk("free")
WALK = "W*10 S*10 A*10 D*10 J*10 L*10 I*5 K*5 Q*26"
TURN = "J*60 L*60 Q*2"


def actions(script):
    return parse_script(get_mode(MODE), script)


@functools.cache
def session(script, seed=0):
    """The true video of a script in the courtyard."""
    held = actions(script)
    return render(FREE.follow_actions(open_place(seed, FREE), held.keyboard, held.mouse))


def measured(frames, script):
    meter = SessionMeter(MODE, actions(script))
    for start in range(0, len(frames), 16):
        meter.add(frames[start : start + 16])
    return meter.numbers()


@pytest.mark.parametrize("seed", [0, 5])
def test_a_true_video_obeys_every_key_and_stands_still_without_one(seed):
    numbers = measured(session(WALK, seed), WALK)
    assert min(numbers["obeyed"].values()) > 0.9, numbers["obeyed"]
    assert set(numbers["obeyed"]) == {*"WSAD", "look left", "look right", "look up", "look down", "idle"}
    assert numbers["idle_colour"] == 0 and numbers["idle_psnr"] == 100


def test_a_true_turn_closes():
    numbers = measured(session(TURN), TURN)
    assert numbers["closure"] > 0.999 and numbers["agreement"] > 0.9


def test_a_still_picture_neither_obeys_nor_closes():
    still = np.repeat(session(TURN)[:1], 122, 0)
    numbers = measured(still, TURN)
    assert numbers["closure"] == 0
    assert numbers["obeyed"] == {"idle": 1, "look left": 0, "look right": 0}


def test_a_mirrored_video_goes_the_other_way():
    numbers = measured(session(WALK)[:, :, ::-1], WALK)
    sideways = [numbers["obeyed"][key] for key in ("A", "D", "look left", "look right")]
    assert max(sideways) < 0.1
    assert numbers["obeyed"]["W"] > 0.9


def test_shuffled_segments_obey_less_and_do_not_close():
    frames = session(TURN)
    order = np.random.default_rng(0).permutation(10)
    shuffled = np.concatenate([*(frames[12 * n : 12 * n + 12] for n in order), frames[120:]])
    right, wrong = measured(frames, TURN), measured(shuffled, TURN)
    assert wrong["agreement"] < right["agreement"] - 0.2
    assert wrong["closure"] < 0.6


def test_frames_that_fade_drift():
    still = np.repeat(session(TURN)[:1], 48, 0)
    faded = (still * np.linspace(1, 0.5, 48)[:, None, None, None]).astype(np.uint8)
    kept, lost = measured(still, "Q*48"), measured(faded, "Q*48")
    assert (kept["drift_colour"], kept["drift_sharpness"], kept["idle_psnr"]) == (0, 1, 100)
    assert lost["drift_colour"] > 20 and lost["drift_sharpness"] < 0.5
    assert lost["idle_colour"] > 30 and lost["idle_psnr"] < 25


def test_keys_against_each_other_imply_nothing():
    def of(letters, mode=MODE):
        action = encode(get_mode(mode), letters)
        return implied(mode, action.keyboard[0], None if action.mouse is None else action.mouse[0])

    assert of("AL") == {}  # walking left moves the picture right, looking right moves it left
    assert of("AJ") == {"A": ("across", 1), "look left": ("across", 1)}
    assert of("WL") == {"W": ("growth", 1), "look right": ("across", -1)}
    assert of("Q") == {"idle": ("speed", 0)} and of("Q", "templerun") == {}


def test_turns_and_pauses_are_found_where_they_are():
    held = actions("Q*30 L*60 J*60 W*3 J*60 L*59")
    (turn,) = find_turns(MODE, held)
    assert (turn.first, turn.farthest, turn.back) == (30, 90, 150)
    assert turn.degrees == pytest.approx(90)
    assert idle_runs(MODE, held) == [(0, 30)]
    assert find_turns(MODE, actions("J*20 L*20")) == []  # not away
    assert find_turns(MODE, actions("J*60 W*2 L*60")) == []  # not on the spot


def test_actions_of_a_record_are_read_with_care():
    runs = [{"frames": 2, "keyboard": [0, 0, 0, 0], "mouse": [0, 0.1]}]
    assert len(actions_of(runs, 2)) == 2
    with pytest.raises(ValueError, match="2 frames and 3"):
        actions_of(runs, 3)
    with pytest.raises(ValueError, match="no numbers"):
        actions_of([{"frames": 2, "keyboard": [float("nan")] * 4, "mouse": None}], 2)
