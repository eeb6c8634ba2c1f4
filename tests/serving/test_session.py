"""One visitor's way: what is kept for going back, and that every way back is the same."""

import numpy as np
import pytest

from mimicmotion.errors import InputError
from mimicmotion.serving.session import Keeping, begin, load
from mimicmotion.streaming import encode
from tests.serving.courtyard import Courtyard
from tests.streaming.micro import make_generator

KEYS = ("W", "WL", "", "J", "S")


def begun(generator, blocks, most_bytes=2**30):
    picture = generator.take_picture(np.full((64, 112, 3), 90, np.uint8))
    return begin(generator, picture, 1, 12.0, Keeping(blocks, most_bytes))


def play(session, keys):
    """The frames of a block for each of `keys`."""
    return [session.make(encode(session.generator.mode, held)).frames for held in keys]


def remake(session):
    while session.prepared:
        session.make_prepared()


@pytest.mark.parametrize("blocks", [0, 2, 100])
@pytest.mark.parametrize("number", [0, 2, 4])
def test_every_way_back_leads_to_the_same_place(blocks, number):
    session = begun(Courtyard(), blocks)
    before = [session.picture, *(frames[-1] for frames in play(session, KEYS))]
    assert session.reach == (0, 4)
    session.go_back(number)
    assert bool(session.remaking) == (number > 0 and 5 - number > blocks)
    remake(session)
    assert session.number == number == len(session.log.blocks)
    assert np.array_equal(session.last_frame, before[number])
    other = begun(Courtyard(), 0)
    expected = play(other, (*KEYS[:number], "D", "D"))[-2:]
    assert all(map(np.array_equal, play(session, "DD"), expected))


def test_the_model_goes_another_way_as_if_it_had_gone_it_first():
    generator = make_generator()
    session = begun(generator, 10)
    play(session, ("W", "L"))
    session.go_back(1)
    other = play(session, "A")
    assert np.array_equal(play(begun(generator, 0), "WA")[-1], other[0])


def test_what_is_kept_has_so_many_blocks_and_so_many_bytes():
    session = begun(Courtyard(), 3)
    play(session, KEYS)
    assert list(session._kept) == [2, 3, 4]
    size = session.state.nbytes
    for most, kept in ((2 * size + 1, 2), (size - 1, 0)):
        session = begun(Courtyard(), 100, most)
        play(session, KEYS)
        assert len(session._kept) == kept


def test_a_block_that_fails_leaves_the_session_where_it_was():
    session = begun(Courtyard(), 10)
    play(session, "WW")
    with pytest.raises(Exception, match="frames"):
        session.make(encode(session.generator.mode, "W").repeat(5))
    assert (session.number, len(session.log.blocks), list(session._kept)) == (2, 2, [0, 1])
    play(session, "W")


def test_a_loaded_session_goes_on_and_back_to_its_beginning(tmp_path):
    session = begun(Courtyard(), 10)
    play(session, "WL")
    session.save(tmp_path / "state")
    expected = play(session, "SS")
    loaded = load(Courtyard(), tmp_path / "state", 12.0, Keeping(0, 0))
    assert loaded.number == 2 and loaded.reach is None
    assert all(map(np.array_equal, play(loaded, "SS"), expected)) and loaded.reach == (2, 3)
    loaded.go_back(3)
    remake(loaded)
    assert np.array_equal(play(loaded, "S")[0], expected[1])
    with pytest.raises(InputError, match="2 to 3"):
        loaded.go_back(1)
