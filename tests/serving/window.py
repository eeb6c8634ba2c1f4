"""A window of a browser without the browser: a socket, what is said and heard on it, and plain requests."""

import io
import json
import time
import urllib.error
import urllib.request
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image
from websockets.sync.client import connect

from mimicmotion.serving import read_frame_message
from tests.conftest import HANG_SECONDS


class Window:
    """Open from the first line of its `with` block to the last. It gives each frame's credit back, unless slow."""

    def __init__(self, server, sid=None, slow=False, origin=None, token=None):
        link = urlsplit(server.link)
        self.base, self.slow = f"{link.scheme}://{link.netloc}", slow
        self.token = token if token is not None else next(iter(parse_qs(link.query).get("token", [])), None)
        query = "&".join(f"{k}={v}" for k, v in (("session", sid), ("token", self.token)) if v)
        self._socket = connect(f"ws://{link.netloc}/ws?{query}", origin=origin or self.base, open_timeout=HANG_SECONDS)
        self.seq = 0
        self.heard, self.frames = [], []

    def __enter__(self):
        self.hello = self.hear("hello")
        self.sid, self.role = self.hello["sid"], self.hello["role"]
        return self

    def __exit__(self, *_error):
        self._socket.close()

    def say(self, type, **values):
        self._socket.send(json.dumps({"type": type, **values}))

    def send(self, data):
        self._socket.send(data)

    def hold(self, keys="", mouse=(0, 0)):
        self.seq += 1
        self.say("held", seq=self.seq, keys=list(keys), mouse=list(mouse))

    def receive(self):
        """The next message, or frame as (header, uint8 (H, W, 3))."""
        data = self._socket.recv(timeout=HANG_SECONDS)
        if isinstance(data, str):
            self.heard.append(json.loads(data))
            return self.heard[-1]
        header, jpeg = read_frame_message(data)
        if not self.slow:
            self.say("ready")
        self.frames.append((header, np.array(Image.open(io.BytesIO(jpeg)))))
        return self.frames[-1]

    def until(self, wanted):
        """The first thing that comes and is wanted. An error that is not wanted fails the test."""
        end = time.monotonic() + HANG_SECONDS
        while time.monotonic() < end:
            found = self.receive()
            if wanted(found):
                return found
            if isinstance(found, dict) and found["type"] == "error":
                break
        raise AssertionError(f"{found} came last, and not what was waited for")

    def hear(self, type, **values):
        """The next message of this type with these values."""
        expected = {"type": type, **values}.items()
        return self.until(lambda found: isinstance(found, dict) and expected <= found.items())

    def see(self, wanted=lambda header: True):
        """The next frame whose header is as wanted."""
        return self.until(lambda found: isinstance(found, tuple) and wanted(found[0]))

    def see_from(self, block):
        """The first frame that comes of block number `block` or a later one."""
        return self.see(lambda header: header["block"] >= block and not header.get("still"))

    def pause(self, **start):
        """Pauses, and begins a session anew: with this seed and picture."""
        self.say("pause", on=True)
        before = self.hear("status", paused=True)["session"]
        start = {"seed": 0, "picture": "default"} | start
        self.say("start", **start)
        # A session that was under way may still tell of itself, with an equal seed, and show where it stood.
        session = self.until(lambda found: isinstance(found, dict) and found.get("session") not in (None, before))
        stills = [picture for header, picture in self.frames if header.get("still") == session["session"]]
        return stills[-1] if stills else self.see(lambda header: header.get("still") == session["session"])[1]

    def step(self, *letters):
        """While paused a block for each of `letters`, held; the last frames, which no window misses."""
        last = []
        for held in letters:
            self.hold(held)
            self.say("step")
            block = self.hear("status", replaying=0)["block"]
            last.append(self.see(lambda header, end=9 + 12 * block: header["frame"] == end - 1)[1])
        return last

    def request(self, path, data=None, **headers):
        """Status, headers and body of an answer."""
        named = {"Origin": self.base} if data is not None else {}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        named = {name: value for name, value in named.items() if value is not None}
        address = self.base + path + (f"?token={self.token}" if self.token and "?" not in path else "")
        return request(address, data, named)


def request(address, data=None, headers=None):
    """Status, headers and body of an answer."""
    asked = urllib.request.Request(address, data, headers or {})
    try:
        with urllib.request.urlopen(asked, timeout=HANG_SECONDS) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def png(pixels):
    """A picture's file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
