"""The routes: the page and its files, what is sent and fetched, the socket.

Every request passes the guard first; every answer tells the browser to load nothing from elsewhere.
"""

import asyncio
import contextlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.background import BackgroundTask
from starlette.datastructures import Headers, MutableHeaders

from mimicmotion.config import Config
from mimicmotion.errors import InputError, MimicMotionError, explain
from mimicmotion.serving.connection import Connection
from mimicmotion.serving.guard import MESSAGE_BURST, MESSAGE_RATE, MOST_FAULTS, Files, Guard, Rate, Sockets
from mimicmotion.serving.pictures import LARGEST_PICTURE, Pictures, temporary_file
from mimicmotion.serving.protocol import Message, parse
from mimicmotion.serving.session import load
from mimicmotion.serving.stage import Stage, encode
from mimicmotion.serving.visitors import Visitor
from mimicmotion.streaming import CAMERA_STEP

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
KINDS = {".js": "text/javascript", ".css": "text/css"}
STATIC = {path.name: path for path in sorted(FOLDER.iterdir()) if path.suffix in KINDS}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # the token stands in the address
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MOST_DRAINED = 100 * 10**6  # bytes of what is too large that are taken and thrown away
MOST_ORDERS = 8  # of a window that wait for the model
TOO_MANY = "too many files are sent and fetched; wait a minute"
POLICY, FULL = 1008, 1013  # close codes


class Refused(Exception):
    """An answer that is an error: its status and its sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Gate:
    """Lets through what the guard lets through, and puts `HEADERS` on the answers."""

    def __init__(self, app, guard: Guard) -> None:
        self.app, self.guard = app, guard

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        query = scope.get("query_string", b"").decode("latin-1")
        public = scope["path"].startswith("/static/")
        refusal = self.guard.refusal(scope["type"], scope.get("method", ""), Headers(scope=scope), query, public)

        async def send_with_headers(message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if refusal is None:
            await self.app(scope, receive, send_with_headers)
        elif scope["type"] == "http":
            answer = JSONResponse({"error": refusal}, 403)
            if scope["path"] == "/":
                answer = PlainTextResponse(f"{refusal}\n", 403)
            await answer(scope, receive, send_with_headers)
        else:
            await receive()
            await send({"type": "websocket.close", "code": POLICY, "reason": refusal})


def make_app(stage: Stage, pictures: Pictures, guard: Guard, config: Config, failed) -> FastAPI:
    """The application. `failed` is called with what ended the stage, if anything did."""

    @contextlib.asynccontextmanager
    async def lifespan(_app):
        running = asyncio.create_task(stage.run())
        running.add_done_callback(lambda task: None if task.cancelled() else failed(task.exception()))
        yield
        running.cancel()
        await asyncio.wait([running])

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(Gate, guard=guard)
    files, sockets = Files(), Sockets()

    @app.exception_handler(Refused)
    async def _refused(_request: Request, error: Refused) -> Response:
        return JSONResponse({"error": str(error)}, error.status)

    @app.exception_handler(MimicMotionError)
    async def _failed(_request: Request, error: MimicMotionError) -> Response:
        return JSONResponse({"error": str(error)}, 422 if isinstance(error, InputError) else 500)

    @app.get("/")
    async def _page() -> Response:
        return FileResponse(FOLDER / "page.html", media_type="text/html; charset=utf-8")

    @app.get("/static/{name}")
    async def _static(name: str) -> Response:
        if name not in STATIC:
            raise Refused(404, "there is no such file")
        return FileResponse(STATIC[name], media_type=f"{KINDS[STATIC[name].suffix]}; charset=utf-8")

    @app.get("/api/info")
    async def _info() -> dict:
        return describe(stage, pictures, config)

    @app.get("/api/gallery/{name}")
    async def _gallery(name: str) -> Response:
        try:
            jpeg = await stage.in_coder(lambda: encode(pictures(name)))
        except InputError as error:
            raise Refused(404, str(error)) from error
        return Response(jpeg, media_type="image/jpeg")

    def visitor_of(sid: str) -> Visitor:
        visitor = stage.visitors.find(sid)
        if not visitor:
            raise Refused(404, "there is no such session here any more; reload the page")
        return visitor

    def session_of(sid: str):
        visitor = visitor_of(sid)
        if not visitor.session:
            raise Refused(404, "there is no session yet; it begins with the first turn")
        return visitor.session

    @app.get("/api/session/{sid}/script")
    async def _script(sid: str) -> Response:
        text = await stage.in_model(session_of(sid).log.text)
        return Response(text, media_type="application/jsonl", headers=as_file(f"{_world(config)}.session.jsonl"))

    @app.get("/api/session/{sid}/state")
    async def _state(sid: str, request: Request) -> Response:
        if not files.take(address_of(request), time.monotonic()):
            raise Refused(429, TOO_MANY)
        session = session_of(sid)
        descriptor, name = tempfile.mkstemp(".safetensors", "mimicmotion-")
        os.close(descriptor)
        path = Path(name)
        try:
            await stage.in_model(session.save, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        done = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, headers=as_file(f"{_world(config)}.safetensors"), background=done)

    @app.get("/api/session/{sid}/video")
    async def _video(sid: str, overlay: bool = False) -> Response:
        visitor = visitor_of(sid)
        if visitor.tape:
            raise Refused(409, "the video is still being recorded; end the recording first")
        if not visitor.videos:
            raise Refused(404, "nothing was recorded yet")
        path = visitor.videos[1 if overlay else 0]
        if not path.is_file():
            raise Refused(404, f"{path.name} is not there any more")
        return FileResponse(path, media_type="video/mp4", headers=as_file(path.name))

    async def body(request: Request, largest: int) -> bytes:
        # All of it is taken before anything else is looked at: a browser hears no answer before it has sent all.
        if not files.take(address_of(request), time.monotonic()):
            raise Refused(429, TOO_MANY)
        too_large = Refused(413, f"at most {largest // 10**6} MB can be sent")
        said = request.headers.get("content-length", "")
        declared = int(said[:20]) if said.isdecimal() else 0
        most = max(largest, MOST_DRAINED)
        if declared > most:
            raise too_large
        data, received = bytearray(), 0
        async for part in request.stream():
            received += len(part)
            if received > most:
                break
            if max(declared, received) <= largest:
                data += part
        if max(declared, received) > largest:
            raise too_large
        if not data:
            raise Refused(422, "nothing was sent")
        return bytes(data)

    @app.post("/api/session/{sid}/picture")
    async def _send_picture(sid: str, request: Request) -> Response:
        data = await body(request, LARGEST_PICTURE)
        visitor = visitor_of(sid)
        kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise Refused(415, f"{kind} is no picture; send a PNG, JPEG or WebP")
        visitor.picture = await stage.in_coder(pictures.sent, data)
        return JSONResponse({"picture": "uploaded"})

    @app.post("/api/session/{sid}/state")
    async def _send_state(sid: str, request: Request) -> Response:
        data = await body(request, stage.largest_state)
        visitor = visitor_of(sid)
        if visitor is not stage.visitors.player:
            raise Refused(409, "you are watching; ask for the turn first")

        def make():
            with temporary_file(data, ".safetensors") as path:
                try:
                    return load(stage.generator, path, stage.fps, stage.keeping)
                except InputError as error:
                    raise InputError(str(error).replace(str(path), "what was sent")) from error

        await stage.load(visitor, make)
        return JSONResponse({"block": visitor.session.number})

    @app.websocket("/ws")
    async def _socket(socket: WebSocket) -> None:
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

    return app


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


def describe(stage: Stage, pictures: Pictures, config: Config) -> dict:
    """What a page must know of the world."""
    generator, mode = stage.generator, stage.generator.mode
    camera = {key: [round(part / CAMERA_STEP, 6) for part in step] for key, step in mode.camera.items()}
    return {
        "world": _world(config),
        "mode": mode.name,
        "keys": {key: mode.labels[key] for key in mode.letters},
        "camera": camera,
        "one_hot": mode.one_hot,
        "height": generator.height,
        "width": generator.width,
        "fps": stage.fps,
        "frames_per_block": 4 * generator.frames_per_block,
        "first_picture": True,
        "gallery": pictures.listing(),
    }


def address_of(connection: Request | WebSocket) -> str:
    """Of the other side, for counting."""
    return connection.client.host if connection.client else ""


def as_file(name: str) -> dict[str, str]:
    """The header that makes a browser save an answer as `name`."""
    return {"Content-Disposition": f"attachment; filename={json.dumps(name)}"}


def _world(config: Config) -> str:
    return Path(config.streaming.config_path).stem
