"""A server of a true courtyard, spoken to by real sockets and requests."""

import contextlib
import json
import random
import threading
import time

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from mimicmotion.serving.connection import CREDITS
from mimicmotion.serving.guard import MOST_FAULTS, MOST_SOCKETS_OF_ADDRESS
from mimicmotion.serving.protocol import ENDED, LARGEST_MESSAGE, TAKEN_OVER
from mimicmotion.streaming import actions_of, read_log
from mimicmotion.worlds import hold, render
from tests.conftest import HANG_SECONDS
from tests.serving.conftest import served
from tests.serving.courtyard import FREE, Courtyard
from tests.serving.window import Window, png, request

LOSSY = 12.0  # grey levels that a JPEG may be off, root mean square


def difference(one, other):
    return float(np.sqrt(np.square(np.float32(one) - np.float32(other)).mean()))


def courtyard_from(server, letters, frames):
    """True frames of keys held from the beginning of a session on."""
    picture = server.stage.pictures("default")
    return render(hold(server.stage.generator.start(picture, 0).camera, letters, frames, FREE).cameras)


def close_code(window):
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            window.receive()
    return closed.value.rcvd.code


def log_of(window, tmp_path):
    """The session's log, as it is downloaded."""
    status, headers, body = window.request(f"/api/session/{window.sid}/script")
    assert status == 200 and "attachment" in headers["Content-Disposition"]
    path = tmp_path / "mine.session.jsonl"
    path.write_bytes(body)
    return read_log(path)


def shas(log):
    """Of the frames of each block."""
    return [block.frames_sha256 for block in log.blocks]


def test_a_held_key_walks_and_letting_go_stops(server):
    with Window(server) as window:
        window.hold("W")
        header, one = window.see(lambda header: header["seq"] == 1)
        _, other = window.see_from(header["block"] + 1)
        assert difference(one, other) > LOSSY
        window.hold()
        felt = window.see(lambda header: header["seq"] == 2)[0]["block"]
        _, one = window.see_from(felt + 1)  # its first frame is the last that the key moved
        header, one = window.see_from(felt + 2)
        for _ in range(12):
            assert difference(one, window.see()[1]) < 1


def test_the_frames_are_those_of_the_actions(server):
    """The whole way from held keys to JPEGs: what is seen is the true walk."""
    with Window(server) as window:
        window.pause()
        seen = window.step("WL", "WL")
        expected = courtyard_from(server, "WL", 21)[[8, 20]]
        assert max(map(difference, seen, expected)) < LOSSY / 2


def test_frames_come_in_order_and_say_whose_input_they_felt(server):
    with Window(server) as window:
        window.hold("W")
        headers = [window.see()[0] for _ in range(40)]
        shown = [(header["block"], header["frame"]) for header in headers if not header.get("still")]
        assert shown == sorted(shown) and len(set(shown)) == len(shown)
        assert [header["seq"] for header in headers] == sorted(header["seq"] for header in headers)
        status = window.hear("status")
        assert {"block", "seed", "paused", "recording", "history", "fps_made", "ms", "queue"} <= set(status)
        assert set(status["ms"]) == {"denoise", "decode", "transport"}


def test_a_slow_window_drops_frames_and_sees_the_newest_when_it_asks(server):
    with Window(server, slow=True) as slow, Window(server) as quick:
        for _ in range(CREDITS):
            slow.see()
        for _ in range(3):
            at = quick.see_from(quick.see()[0]["block"] + 2)[0]["frame"]
            slow.say("ready")
            header, _ = slow.see()
            assert header["frame"] >= at, "it does not fall behind"
        assert header["dropped"] >= 30


def test_two_visitors_one_plays_and_the_other_watches_until_it_is_his_turn(server):
    with Window(server) as one, Window(server) as two:
        assert (one.role, two.role) == ("player", "watcher")
        one.see_from(1)
        two.hold("W")
        two.say("pause", on=True)
        assert "turn" in two.hear("error")["message"]
        two.say("play")
        two.hear("role", role="watcher", waiting=1)
        one.hear("status", queue=1)
        one.say("leave")
        one.hear("role", role="watcher", waiting=0)
        two.hear("role", role="player")
        two.hear("status", history=[0, 0])  # a session of his own
        one.see(lambda header: header["block"] == 1)  # which the other watches
        one.say("play")
        two.say("leave")
        one.hear("role", role="player")
        assert one.hear("status")["history"][1] >= 1, "his session went on where it was"


def test_a_window_that_comes_back_goes_on(server):
    with Window(server) as window:
        window.see_from(1)
    with Window(server, sid=window.sid) as again:
        assert again.sid == window.sid and again.role == "player"
        header, _ = again.see(lambda header: not header.get("still"))
        assert header["block"] >= 1


def test_a_second_window_takes_a_session_over(server):
    with Window(server) as window, Window(server, sid=window.sid) as second:
        assert close_code(window) == TAKEN_OVER
        second.see_from(second.see()[0]["block"] + 1)


def test_the_model_rests_when_all_is_paused_and_when_nobody_is_here(server):
    generator = server.stage.generator
    with Window(server) as window:
        window.pause()
        window.step("")
        settled = generator.blocks
        window.request("/api/info")
        assert generator.blocks == settled
        window.say("pause", on=False)
        window.see_from(2)
    while server.stage.visitors.player.is_here:  # he is missed a moment later
        time.sleep(0.01)
    assert not server.stage._may_make()


def test_a_recording_ends_whole_with_the_turn(server, tmp_path):
    with Window(server) as one, Window(server) as two:
        one.say("record", on=True)
        one.hear("status", recording=True)
        one.see_from(2)
        two.say("play")
        one.say("leave")
        assert "downloaded" in one.hear("error")["message"]
        assert one.request(f"/api/session/{one.sid}/video")[0] == 200
        assert len(list((tmp_path / "outputs").glob("*.mp4"))) == 2


def test_paused_one_block_at_a_time(server):
    with Window(server) as window:
        window.pause()
        window.step("", "", "")
        window.say("pause", on=False)
        window.see_from(5)


@pytest.mark.parametrize("history", [64, 0])
def test_back_and_another_way_is_that_way_from_the_beginning(config, tmp_path, history):
    """With states kept, and with none: then the blocks before are made again."""
    config.serving.history = history
    with served(config) as server, Window(server) as window:
        window.pause()
        seen = window.step("W", "W", "A", "A")
        window.say("back", block=2)
        window.hear("status", history=[0, 1], replaying=0)
        _, still = window.see(lambda header: header.get("still") and header["block"] == 2)
        assert difference(still, seen[1]) < 1, "what was there before that block"
        window.step("L")
        other = shas(log_of(window, tmp_path))
        window.pause()
        window.step("W", "W", "L")
        assert shas(log_of(window, tmp_path)) == other and len(other) == 3


def test_a_step_is_of_the_session_that_a_start_before_it_begins(server):
    with Window(server) as window:
        window.pause()
        window.step("W")
        window.say("start", seed=3, picture="default")
        window.say("step")
        window.hear("status", seed=3, block=0, history=[0, 0])
        assert window.see(lambda header: header["frame"] == 8 and not header.get("still"))[0]["block"] == 0


@pytest.mark.parametrize("block", [4, 100])
def test_back_to_what_was_never_made_is_refused(server, block):
    with Window(server) as window:
        window.pause()
        window.step("W")
        window.say("back", block=block)
        assert "there are 0 to 0" in window.hear("error")["message"]


def test_a_session_and_its_log_give_the_same_frames_again(config, tmp_path):
    with served(config) as server, Window(server) as window:
        window.pause(seed=5)
        window.step("W", "", "D")
        window.say("back", block=1)
        window.hear("status", history=[0, 0], replaying=0)
        window.step("WJ", "S")
        log = log_of(window, tmp_path)
    assert log.header.seed == 5 and len(list(actions_of(log))) == 33
    with served(config, log=log) as server, Window(server) as window:
        window.hear("status", replaying=3)
        window.hold("W")  # which is not felt before it is over
        window.see_from(3)
        again = log_of(window, tmp_path)
        assert shas(again)[:3] == shas(log) and len(shas(again)) > 3, "and goes on"
        assert not any(message["type"] == "error" for message in window.heard)


def test_a_log_of_another_machine_is_told_to_differ(config, tmp_path):
    class Other(Courtyard):
        def decode_next(self, state, block, clock=None):
            frames, after = super().decode_next(state, block)
            return frames // 2, after

    with served(config) as server, Window(server) as window:
        window.see_from(1)
        log = log_of(window, tmp_path)
    with served(config, Other(), log=log) as server, Window(server) as window:
        assert "otherwise" in window.hear("error")["message"]


def test_a_state_is_saved_and_loaded(server, tmp_path):
    with Window(server) as window:
        window.pause()
        window.step("W", "L")
        status, _, state = window.request(f"/api/session/{window.sid}/state")
        assert status == 200
        window.step("W")
        straight = shas(log_of(window, tmp_path))
        status, _, body = window.request(f"/api/session/{window.sid}/state", state)
        assert (status, json.loads(body)) == (200, {"block": 2})
        window.hear("status", block=2, history=None)
        window.step("W")
        assert shas(log_of(window, tmp_path)) == straight[2:]
        for garbage in (b"{", state[:-3], b"\x00" * 100, b'{"version": 1}'):
            status, _, body = window.request(f"/api/session/{window.sid}/state", garbage)
            assert status == 422 and "what was sent" in json.loads(body)["error"]
        assert window.request(f"/api/session/{window.sid}/state", bytes(3 * 10**6))[0] == 413
        window.step("W")


def test_a_picture_is_sent_and_begun_from(server):
    with Window(server) as window:
        path = f"/api/session/{window.sid}/picture"
        window.say("start", seed=0, picture="uploaded")
        assert "picture" in window.hear("error")["message"]
        seen = []
        for level in (250, 3):
            assert window.request(path, png(np.full((90, 160, 3), level, np.uint8)), Content_Type="image/png")[0] == 200
            still = window.pause(picture="uploaded")
            assert abs(still.mean() - level) < 2, "what is seen before the first block"
            seen += window.step("W")
        assert difference(*seen) > LOSSY


BAD_PICTURES = {
    "nothing": b"",
    "text": b"hello",
    "html": b"<script>alert(1)</script>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "cut off": png(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))[:-100],
    "bomb": png(np.zeros((8_200, 8_000), np.uint8)),
    "line": png(np.zeros((1, 500, 3), np.uint8)),
}


def test_what_is_no_picture_is_refused_and_named(server):
    with Window(server) as window:
        path = f"/api/session/{window.sid}/picture"
        for name, data in BAD_PICTURES.items():
            status, _, body = window.request(path, data, Content_Type="image/png")
            assert status == 422, name
            assert "/" not in json.loads(body)["error"].replace("image/", ""), "no path of this machine"
        assert window.request(path, b"x", Content_Type="text/html")[0] == 415
        assert window.request(path, bytes(17 * 10**6))[0] == 413
        assert window.request("/api/session/nobody/picture", b"x")[0] == 404
        window.see_from(window.see()[0]["block"] + 1)


def test_uploads_are_limited(server):
    with Window(server) as window:
        path = f"/api/session/{window.sid}/picture"
        answers = [window.request(path, b"x", Content_Type="image/png")[0] for _ in range(40)]
        assert answers[0] == 422 and answers[-1] == 429


def test_a_recording_is_whole_and_lies_beside_its_log(server, tmp_path):
    outputs = tmp_path / "outputs"
    with Window(server) as window:
        window.say("record", on=True)
        window.hear("status", recording=True)
        assert window.request(f"/api/session/{window.sid}/video")[0] == 409
        window.see_from(window.see()[0]["block"] + 2)
        window.say("record", on=False)
        window.hear("status", recording=False, recorded=True)
        for overlay in (0, 1):
            status, headers, body = window.request(f"/api/session/{window.sid}/video?overlay={overlay}")
            assert status == 200 and headers["Content-Type"] == "video/mp4" and b"ftyp" in body[:12]
        names = sorted(path.name.partition("-")[2].partition(".")[2] or path.name for path in outputs.iterdir())
        first = {path.name for path in outputs.iterdir()}
        assert len(first) == 4, names
        window.say("record", on=True)
        window.hear("status", recording=True)
        window.see_from(window.see()[0]["block"] + 2)
    server.__exit__()  # while it records
    later = {path.name for path in outputs.iterdir()}
    assert first < later and len(later) == 8
    for record in outputs.glob("*[0-9a-f].json"):
        facts = json.loads(record.read_text())
        assert sum(run["frames"] for run in facts["actions"]) == facts["frames"] >= 12
        log = read_log(record.with_suffix(".session.jsonl"))
        assert len(list(actions_of(log))) >= facts["frames"]


def test_a_session_ends_when_nothing_is_pressed_and_its_page_is_told(server):
    with Window(server) as window:
        window.see()
        server.stage.visitors.idle_timeout = 0
        assert "ended" in window.hear("error")["message"]
        assert close_code(window) == ENDED
    with Window(server, sid=window.sid) as again:
        assert again.sid != window.sid


GARBAGE = [
    "", "{", "[]", "null", b"\x00\xff" * 40, "[" * 4000, "\u2028" * 9, '{"type": "held"}',
    '{"type":"back","block":1e9}',
]  # fmt: skip


def rage(window, draw):
    """Sends garbage until the server has had enough."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            window.send(draw.choice(GARBAGE))
            window.receive()


def test_garbage_on_twenty_sockets_leaves_the_server_well(server):
    with Window(server) as player, contextlib.ExitStack() as stack:
        windows = [stack.enter_context(Window(server)) for _ in range(20)]
        threads = [threading.Thread(target=rage, args=(window, random.Random(0))) for window in windows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG_SECONDS)
            assert not thread.is_alive()
        player.hold("W")
        player.see(lambda header: header["seq"] == 1)


def test_what_is_said_too_often_or_too_long_closes_the_socket(server):
    with Window(server) as window:
        window.send("x" * (LARGEST_MESSAGE + 1))
        assert close_code(window) == 1009
    with Window(server) as window:
        for _ in range(MOST_FAULTS + 1):
            window.send("?")
        assert close_code(window) == 1008


def test_so_many_windows_of_one_address_and_no_more(server):
    windows = [Window(server).__enter__() for _ in range(MOST_SOCKETS_OF_ADDRESS)]
    with pytest.raises((ConnectionClosed, InvalidStatus)):
        Window(server).__enter__()
    for window in windows:
        window.__exit__()
    while True:  # they are told of a moment later
        try:
            Window(server).__enter__().__exit__()
            return
        except (ConnectionClosed, InvalidStatus):
            pass


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://localhost"])
def test_pages_of_others_cannot_speak_to_it(server, origin):
    base = server.link.rstrip("/")
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{base.replace('http', 'ws')}/ws", origin=origin, open_timeout=HANG_SECONDS)
    assert refused.value.response.status_code == 403
    headers = {"Origin": origin} if origin else {}
    assert request(f"{base}/api/session/x/picture", b"x", headers)[0] == 403


def test_a_foreign_name_is_refused(server):
    for path in ("", "api/info", "static/page.js"):
        status, _, body = request(server.link + path, headers={"Host": "evil.example"})
        assert status == 403 and b"link" in body


def test_with_a_token_nothing_is_to_be_had_without(config):
    config.serving.require_token = True
    with served(config) as server:
        base, _, token = server.link.partition("/?token=")
        assert len(token) >= 32
        for path in ("/", "/api/info", "/api/gallery/default", "/api/session/x/script"):
            assert request(base + path)[0] == 403
            assert request(f"{base}{path}?token={token}x")[0] == 403
        assert request(f"{base}/?token={token}")[0] == 200
        assert request(f"{base}/api/info", headers={"X-Token": token})[0] == 200
        with pytest.raises(InvalidStatus):
            Window(server, token="x" * len(token))
        with Window(server) as window:
            window.see()


def test_the_page_takes_nothing_from_elsewhere(server):
    status, headers, body = request(server.link)
    assert status == 200 and b"<html" in body
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "http" not in policy and "unsafe" not in policy
    assert headers["Referrer-Policy"] == "same-origin" and headers["X-Content-Type-Options"] == "nosniff"
    names = {part.split(b'"')[0].decode() for part in body.split(b'"static/')[1:]}
    assert names
    for name in names:
        assert request(f"{server.link}static/{name}")[0] == 200
    for name in ("app.py", "page.html", "..%2fapp.py", "%2e%2e/app.py", ".", "nothing.js"):
        assert request(f"{server.link}static/{name}")[0] in (403, 404)


def test_info_and_gallery(server):
    facts = json.loads(request(f"{server.link}api/info")[2])
    assert facts["mode"] == "universal" and facts["keys"]["W"] == "forward" and facts["camera"]["L"] == [0, 1]
    assert (facts["height"], facts["width"], facts["one_hot"]) == (64, 112, False)
    assert {"default", "courtyard_2"} <= {picture["id"] for picture in facts["gallery"]}
    for picture in facts["gallery"]:
        status, headers, body = request(f"{server.link}api/gallery/{picture['id']}")
        assert (status, headers["Content-Type"], body[:2]) == (200, "image/jpeg", b"\xff\xd8")
    assert request(f"{server.link}api/gallery/..%2f..%2fREADME.md")[0] == 404


def test_a_session_that_cannot_be_made_again_is_given_up_in_words(config):
    class Failing(Courtyard):
        broken = False

        def next_block(self, state, action, clock=None):
            if self.broken:
                raise RuntimeError("a fault")
            return super().next_block(state, action, clock)

    config.serving.history = 0
    with served(config, Failing()) as server, Window(server) as window:
        window.pause()
        window.step("W", "W")
        server.stage.generator.broken = True
        window.say("back", block=1)
        window.hear("role", role="watcher")
        window.hear("error", message="the world has stopped: RuntimeError: a fault")
        assert "could not be made again" in window.hear("error")["message"]
        server.stage.generator.broken = False
        window.say("play")
        window.hear("role", role="player")
        window.say("pause", on=False)
        window.see_from(1)


def test_a_model_that_fails_says_so_and_the_world_can_go_on(config):
    class Failing(Courtyard):
        def next_block(self, state, action, clock=None):
            if action.keyboard[:, 1].any():
                raise RuntimeError("a fault")
            return super().next_block(state, action, clock)

    with served(config, Failing()) as server, Window(server) as window:
        window.hold("S")
        assert "a fault" in window.hear("error")["message"]
        block = window.hear("status", paused=True)["block"]
        window.hold()
        window.say("pause", on=False)
        window.see_from(block + 1)
