"""One open window: what is heard on its socket, what is obeyed in turn, until it is gone or has said too much."""

import asyncio
import logging
import time
from urllib.parse import parse_qs

from fastapi import WebSocket, WebSocketDisconnect

from mimicmotion.errors import InputError, MimicMotionError, explain
from mimicmotion.serving.connection import Connection
from mimicmotion.serving.guard import MESSAGE_BURST, MESSAGE_RATE, MOST_FAULTS, Rate, Sockets
from mimicmotion.serving.protocol import Message, parse
from mimicmotion.serving.stage import Stage
from mimicmotion.serving.transfers import address_of
from mimicmotion.serving.visitors import Visitor

logger = logging.getLogger(__name__)

MOST_ORDERS = 8  # of a window that wait for the model
POLICY, FULL = 1008, 1013  # close codes


async def open_window(stage: Stage, sockets: Sockets, socket: WebSocket) -> None:
    """Serves a socket that asks to be opened, if there is room for it."""
    address = address_of(socket)
    try:
        sockets.enter(address)
    except InputError as error:
        await socket.close(FULL, str(error))
        return
    try:
        await socket.accept()
        sid = next(iter(parse_qs(socket.url.query).get("session", [])), None)
        await converse(stage, socket, sid)
    finally:
        sockets.leave(address)


async def converse(stage: Stage, socket: WebSocket, sid: str | None) -> None:
    """Serves one open socket to its end."""
    connection = Connection(socket)
    try:
        visitor = stage.arrive(sid, connection)
    except InputError as error:
        await socket.close(FULL, str(error))
        return
    orders: asyncio.Queue[Message] = asyncio.Queue(MOST_ORDERS)
    tasks = [
        asyncio.create_task(connection.run()),
        asyncio.create_task(listen(stage, socket, connection, visitor, orders)),
        asyncio.create_task(obey(stage, visitor, orders)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        connection.end(POLICY, "")
        await asyncio.wait(tasks[:1], timeout=1)  # what was said last, such as why it is closed
    finally:
        for task in tasks:
            task.cancel()
        stage.part(visitor, connection)
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(error, Exception) and not is_lost_line(error):
                logger.error("a window's connection failed", exc_info=error)


def is_lost_line(error: Exception) -> bool:
    """Whether an error says no more than that the other side is gone."""
    return isinstance(error, WebSocketDisconnect | RuntimeError | OSError)


async def listen(stage: Stage, socket: WebSocket, connection: Connection, visitor: Visitor, orders) -> None:
    """Hears messages until the window is gone, or has said too much."""
    rate, faults = Rate(MESSAGE_RATE, MESSAGE_BURST), 0
    letters = stage.generator.mode.letters
    while True:
        received = await socket.receive()
        if received["type"] == "websocket.disconnect":
            return
        if not rate.take(time.monotonic()):
            connection.end(POLICY, "too many messages")
            return
        try:
            text = received.get("text")
            message = parse(received.get("bytes") if text is None else text, letters)
            if not stage.hear(visitor, message):
                orders.put_nowait(message)
        except asyncio.QueueFull:
            connection.say({"type": "error", "message": "one thing after the other: the model is still at work"})
        except InputError as error:
            faults += 1
            connection.say({"type": "error", "message": str(error)})
            if faults > MOST_FAULTS:
                connection.end(POLICY, "too many messages that mean nothing")
                return


async def obey(stage: Stage, visitor: Visitor, orders: asyncio.Queue) -> None:
    """Does one after the other what takes time."""
    while True:
        message = await orders.get()
        try:
            await stage.act(visitor, message)
        except Exception as error:
            if not isinstance(error, MimicMotionError):
                logger.error("%s failed", message.type, exc_info=error)
            visitor.say("error", message=explain(error))
