"""The files of a session: its action script, state and videos fetched; a picture or a state sent."""

import json
import os
import tempfile
import time
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask
from starlette.requests import HTTPConnection

from mimicmotion.errors import InputError
from mimicmotion.serving.guard import Files
from mimicmotion.serving.pictures import LARGEST_PICTURE, Pictures, temporary_file
from mimicmotion.serving.session import Session, load
from mimicmotion.serving.stage import Stage
from mimicmotion.serving.visitors import Visitor

MOST_DRAINED = 100 * 10**6  # bytes of what is too large that are taken and thrown away
TOO_MANY = "too many files are sent and fetched; wait a minute"


class Refused(Exception):
    """An answer that is an error: its status and its sentence."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def downloads(stage: Stage, files: Files, world: str) -> APIRouter:
    """What can be fetched of a session, named after its `world`; `files` counts."""
    routes = APIRouter()

    @routes.get("/api/session/{sid}/script")
    async def _script(sid: str) -> Response:
        text = await stage.in_model(session_of(stage, sid).log.text)
        return Response(text, media_type="application/jsonl", headers=as_file(f"{world}.session.jsonl"))

    @routes.get("/api/session/{sid}/state")
    async def _state(sid: str, request: Request) -> Response:
        if not files.take(address_of(request), time.monotonic()):
            raise Refused(429, TOO_MANY)
        session = session_of(stage, sid)
        descriptor, name = tempfile.mkstemp(".safetensors", "mimicmotion-")
        os.close(descriptor)
        path = Path(name)
        try:
            await stage.in_model(session.save, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        done = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, headers=as_file(f"{world}.safetensors"), background=done)

    @routes.get("/api/session/{sid}/video")
    async def _video(sid: str, overlay: bool = False) -> Response:
        visitor = visitor_of(stage, sid)
        if visitor.tape:
            raise Refused(409, "the video is still being recorded; end the recording first")
        if not visitor.videos:
            raise Refused(404, "nothing was recorded yet")
        path = visitor.videos[1 if overlay else 0]
        if not path.is_file():
            raise Refused(404, f"{path.name} is not there any more")
        return FileResponse(path, media_type="video/mp4", headers=as_file(path.name))

    return routes


def uploads(stage: Stage, pictures: Pictures, files: Files) -> APIRouter:
    """What can be sent to a session; `files` counts."""
    routes = APIRouter()

    @routes.post("/api/session/{sid}/picture")
    async def _send_picture(sid: str, request: Request) -> Response:
        data = await body(request, files, LARGEST_PICTURE)
        visitor = visitor_of(stage, sid)
        kind = request.headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise Refused(415, f"{kind} is no picture; send a PNG, JPEG or WebP")
        visitor.picture = await stage.in_coder(pictures.sent, data)
        return JSONResponse({"picture": "uploaded"})

    @routes.post("/api/session/{sid}/state")
    async def _send_state(sid: str, request: Request) -> Response:
        data = await body(request, files, stage.largest_state)
        visitor = visitor_of(stage, sid)
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

    return routes


def visitor_of(stage: Stage, sid: str) -> Visitor:
    """The visitor of an id. Raises: Refused."""
    visitor = stage.visitors.find(sid)
    if not visitor:
        raise Refused(404, "there is no such session here any more; reload the page")
    return visitor


def session_of(stage: Stage, sid: str) -> Session:
    """The session of a visitor's id. Raises: Refused."""
    visitor = visitor_of(stage, sid)
    if not visitor.session:
        raise Refused(404, "there is no session yet; it begins with the first turn")
    return visitor.session


async def body(request: Request, files: Files, largest: int) -> bytes:
    """What is sent, of `largest` bytes at most. Raises: Refused."""
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


def address_of(connection: HTTPConnection) -> str:
    """Of the other side, for counting."""
    return connection.client.host if connection.client else ""


def as_file(name: str) -> dict[str, str]:
    """The header that makes a browser save an answer as `name`."""
    return {"Content-Disposition": f"attachment; filename={json.dumps(name)}"}
