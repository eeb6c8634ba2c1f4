"""The application: who is let in, the page and its files, what it is told of the world, the routes of the rest.

Every request passes the guard first; every answer tells the browser to load nothing from elsewhere.
"""

import asyncio
import contextlib
import logging
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.datastructures import Headers, MutableHeaders

from mimicmotion.config import Config
from mimicmotion.errors import InputError, MimicMotionError
from mimicmotion.serving.guard import Files, Guard, Sockets
from mimicmotion.serving.pictures import Pictures
from mimicmotion.serving.stage import Stage, encode
from mimicmotion.serving.transfers import Refused, downloads, uploads
from mimicmotion.serving.windows import POLICY, open_window
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

    app.include_router(downloads(stage, files, _world(config)))
    app.include_router(uploads(stage, pictures, files))

    @app.websocket("/ws")
    async def _socket(socket: WebSocket) -> None:
        await open_window(stage, sockets, socket)

    return app


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


def _world(config: Config) -> str:
    return Path(config.streaming.config_path).stem
