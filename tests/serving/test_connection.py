"""Frames by credit: a slow window drops some, and the newest always arrives."""

import asyncio

from mimicmotion.serving.connection import CREDITS, MOST_TEXTS, Connection, Frame
from mimicmotion.serving.protocol import read_frame_message


class Line:
    """Takes what is sent, until it is blocked."""

    def __init__(self):
        self.texts, self.frames, self.closed = [], [], None
        self.open = asyncio.Event()
        self.open.set()

    async def send_json(self, message):
        await self.open.wait()
        self.texts.append(message)

    async def send_bytes(self, data):
        await self.open.wait()
        self.frames.append(read_frame_message(data)[0])

    async def close(self, code, reason):
        self.closed = code


def with_line(work):
    """Runs `work(connection, line, settle)`; settle lets everything happen that can."""

    async def run():
        line = Line()
        connection = Connection(line)
        sending = asyncio.create_task(connection.run())

        async def settle():
            for _ in range(20):
                await asyncio.sleep(0)

        await work(connection, line, settle)
        sending.cancel()

    asyncio.run(run())


def frame(number):
    return Frame({"frame": number}, b"jpeg", 0.0)


def numbers(line):
    return [header["frame"] for header in line.frames]


def test_without_credit_frames_wait_and_the_newest_replaces_them():
    async def work(connection, line, settle):
        for number in range(10):
            connection.show(frame(number))
            await settle()
        assert numbers(line) == list(range(CREDITS))
        connection.ready()
        await settle()
        assert numbers(line)[CREDITS:] == [9] and line.frames[-1]["dropped"] == 10 - CREDITS - 1
        connection.show(frame(10))
        await settle()
        assert len(line.frames) == CREDITS + 1, "the credit that came back is used up"

    with_line(work)


def test_a_window_that_keeps_up_drops_nothing():
    async def work(connection, line, settle):
        for number in range(50):
            connection.show(frame(number))
            await settle()
            connection.ready()
        assert numbers(line) == list(range(50)) and line.frames[-1]["dropped"] == 0

    with_line(work)


def test_credits_do_not_pile_up():
    async def work(connection, line, settle):
        for _ in range(100):
            connection.ready()
        for number in range(10):
            connection.show(frame(number))
            await settle()
        assert len(line.frames) == CREDITS

    with_line(work)


def test_of_statuses_the_newest_is_sent_and_other_messages_keep_their_order():
    async def work(connection, line, settle):
        line.open.clear()
        connection.say({"type": "hello"})
        await settle()
        for block in range(5):
            connection.say({"type": "status", "block": block})
        connection.say({"type": "error", "message": "last"})
        line.open.set()
        await settle()
        assert line.texts == [{"type": "hello"}, {"type": "status", "block": 4}, {"type": "error", "message": "last"}]

    with_line(work)


def test_a_window_that_takes_nothing_is_closed():
    async def work(connection, line, settle):
        line.open.clear()
        for _ in range(MOST_TEXTS + 10):
            connection.say({"type": "error", "message": ""})
        line.open.set()
        await settle()
        for _ in range(10):
            await settle()
        assert line.closed

    with_line(work)
