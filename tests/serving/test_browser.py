"""The page in headless Chromium, played against a true courtyard: the camera of what was received is the judge."""

import base64
import io
import itertools
import re
import time

import numpy as np
import pytest
from PIL import Image

from mimicmotion.serving import read_frame_message
from mimicmotion.streaming import frame_count
from mimicmotion.streaming.texts import CHINESE
from mimicmotion.worlds import open_place, render
from tests.chromium import NEEDED, open_browser, wait
from tests.conftest import HANG_SECONDS
from tests.serving.conftest import served
from tests.serving.courtyard import FREE

pytestmark = NEEDED

FORWARD = (1, 0, 0, 0)
TURN = np.radians(1.5)  # of a camera step
FPS = 12.0
JPEG_LOSS = 6.0  # grey levels

# Run before the page's own script: what the server sent is kept, and what the page said to it. `gate` holds drawing up.
LISTENING = """
window.received = []; window.told = []; window.said = []; window.files = []; window.pads = [];
window.gate = Promise.resolve();
const Socket = WebSocket, decode = createImageBitmap, address = URL.createObjectURL;
window.WebSocket = class extends Socket {
  constructor(...all) {
    super(...all);
    window.line = this;
    this.addEventListener("message", ({data}) => {
      if (typeof data === "string") { told.push(JSON.parse(data)); return; }
      const length = new DataView(data).getUint32(0);
      received.push({...JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length))), data});
    });
  }
  send(text) {
    const message = JSON.parse(text);
    if (message.type !== "ready") said.push(message);
    super.send(text);
  }
};
window.createImageBitmap = async (...all) => { await gate; return decode(...all); };
URL.createObjectURL = blob => { files.push(blob); return address.call(URL, blob); };
navigator.getGamepads = () => pads;
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """The browser, which remembers what pages hear and say."""
    with open_browser(tmp_path_factory.mktemp("chromium"), (640, 900)) as chromium:
        yield chromium


@pytest.fixture
def config(config):
    config.streaming.fps = FPS
    return config


@pytest.fixture
def open_page(chromium):
    """Opens an address in this window, as one that was never here. Nothing may be said on the console."""

    def open_page(address):
        chromium.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": LISTENING})
        chromium.get(address)
        return chromium

    chromium.switch_to.new_window("tab")
    first = chromium.window_handles[0]
    yield open_page
    said = chromium.get_log("browser")
    for window in chromium.window_handles[1:]:
        chromium.switch_to.window(window)
        chromium.close()
    chromium.switch_to.window(first)
    assert said == []


@pytest.fixture
def page(server, open_page):
    """The browser at the server's page, with a frame of the first block seen."""
    page = open_page(server.link)
    wait(page, "received.some(frame => !frame.still)")
    return page


def until(holds):
    """Waits until something holds on the server."""
    end = time.monotonic() + HANG_SECONDS
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def find(page, name):
    return page.find_element("id", name)


def keys(page):
    """Keys and the mouse, moved by hand."""
    from selenium.webdriver import ActionChains

    return ActionChains(page, duration=0)


def said(page, kind="held"):
    """What the page has told of a kind."""
    return page.execute_script(f"return said.filter(message => message.type === '{kind}')")


def held(page):
    """The sets of keys that the page has told, one after the other."""
    return [message["keys"] for message in said(page)]


def problems(page):
    """What the page shows to have gone wrong."""
    return page.execute_script(
        "return [...document.querySelectorAll('#problems li span')].map(span => span.textContent)"
    )


def frames(page):
    """Headers and pictures uint8 (N, 64, 112, 3) of what was received."""
    coded = page.execute_script(
        "return received.map(({data}) => btoa(Array.from(new Uint8Array(data), b => String.fromCharCode(b)).join('')))"
    )
    headers, jpegs = zip(*(read_frame_message(base64.b64decode(text)) for text in coded), strict=True)
    return headers, np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs])


def nearest(pictures, path):
    """Of each picture, the index of the camera on `path` (N, 4) whose view differs least, and by how many levels."""
    views = render(path).astype(np.float32)
    errors = np.stack([np.square(views - picture).mean((1, 2, 3)) for picture in pictures]) ** 0.5
    return errors.argmin(1), errors.min(1)


def walked(page, path):
    """Of each block received, in the order of coming, its number and how far along `path` its frames are, by frame."""
    headers, pictures = frames(page)
    kept = [index for index, header in enumerate(headers) if not header.get("still")]
    steps, errors = nearest(pictures[kept], path)
    assert errors.max() < JPEG_LOSS
    blocks = {}
    for index, step in zip(kept, steps, strict=True):
        number = headers[index]["block"]
        blocks.setdefault(number, {})[headers[index]["frame"] - begin(number)] = int(step)
    return blocks


def begin(block):
    """The first frame of a block."""
    return frame_count(3 * block) if block else 0


def camera_of(server):
    """Where the player's camera stands."""
    return server.stage.visitors.player.session.state.camera


def felt(page, blocks=1):
    """Waits until so many whole blocks have come that felt all that was said; the number of the first of them."""
    page.execute_script("window.last = said.findLast(message => message.type === 'held').seq")
    first = wait(page, "received.find(frame => !frame.still && frame.seq >= last)")["block"]
    wait(page, f"received.at(-1).block >= {first + blocks}")
    return first


def test_W_held_for_two_seconds_walks_on_and_stops_when_it_is_let_go(page, server):
    start = camera_of(server)
    keys(page).key_down("w").perform()
    first = felt(page, blocks=2)  # of 12 frames, 12 frames a second
    assert page.execute_script("return [...document.querySelectorAll('.key.held')].map(key => key.textContent)")
    keys(page).key_up("w").perform()
    stopped = felt(page)
    blocks = walked(page, FREE.follow_actions(start, np.array([FORWARD] * 80), np.zeros((80, 2))))
    for number in blocks:
        for frame, step in blocks[number].items():
            # The first frame of a block is moved by the action before.
            assert step == min(max(begin(number) + frame, begin(first)), begin(stopped)) - begin(first)
    assert begin(stopped) - begin(first) >= 24
    assert held(page) == [[], ["W"], []]
    wait(page, "Number(document.getElementById('figure-shown').textContent) > 0")
    wait(page, "document.getElementById('figure-dropped').textContent === String(received.at(-1).dropped)")
    assert find(page, "figure-latency").text.endswith(" ms")


def test_the_mouse_turns_the_camera_by_what_it_moved(page, server):
    start = camera_of(server)
    canvas = find(page, "canvas")
    keys(page).click(canvas).perform()
    wait(page, "document.pointerLockElement === canvas")
    keys(page).move_by_offset(120, 0).perform()
    wait(page, "said.some(message => message.mouse?.[1])")
    felt(page, blocks=2)
    assert sum(message["mouse"][1] for message in said(page)) == 10  # 12 pixels a step
    turned = np.tile(start, (80, 1))
    turned[:, 2] -= np.arange(80) * TURN / 6  # of the 10 steps each of a block's 12 frames takes 5 sixths
    ends = [max(frame.items())[1] for frame in walked(page, turned).values()]
    assert (ends[0], ends[-1]) == (0, 60)
    keys(page).key_down("w").perform()
    page.execute_script("document.exitPointerLock()")
    wait(page, "said.at(-1).keys.length === 0 && !document.pointerLockElement")


def test_every_device_holds_the_same_keys(page):
    from selenium.webdriver.common.keys import Keys

    hands = keys(page)
    hands.key_down("w").key_down("a").key_up("w").key_up("a").key_down(Keys.ARROW_LEFT).key_up(
        Keys.ARROW_LEFT
    ).perform()
    assert held(page) == [[], ["W"], ["W", "A"], ["A"], [], ["J"], []]
    page.execute_script("said = []")
    keys(page).key_down(Keys.CONTROL).send_keys("s").key_up(Keys.CONTROL).perform()
    find(page, "seed").send_keys("1")
    keys(page).send_keys("d").perform()
    assert held(page) == []  # the browser's own, and typing
    find(page, "show-touch").click()
    page.execute_script("document.getElementById('touch').scrollIntoView()")
    spot = "const box = arguments[0].getBoundingClientRect(); return {x: box.x + 20, y: box.y + 20}"
    pads = page.find_elements("css selector", "#pads button")
    fingers = [page.execute_script(spot, place) | {"id": number} for number, place in enumerate(pads[:2])]
    touch(page, "touchStart", fingers[:1])
    touch(page, "touchStart", fingers)
    drag = page.execute_script(spot, find(page, "drag")) | {"id": 2}
    touch(page, "touchStart", [*fingers, drag])
    touch(page, "touchMove", [*fingers, drag | {"y": drag["y"] - 36}])
    wait(page, "said.some(message => message.mouse?.[0] === 3)")
    touch(page, "touchEnd", [])
    wait(page, "said.at(-1).keys.length === 0")
    assert [held for held, after in itertools.pairwise(held(page)) if held != after] == [["W"], ["W", "A"], ["A"]]
    page.execute_script("said = []; pads = [{index: 0, axes: [1, -1, 0.5, 0], buttons: []}]")
    page.execute_script("dispatchEvent(new Event('gamepadconnected'))")
    wait(page, "said.some(message => message.keys?.length === 2 && message.mouse[1] > 0)")
    page.execute_script("pads = []; dispatchEvent(new Event('gamepaddisconnected'))")
    wait(page, "said.at(-1).keys.length === 0")


def touch(page, kind, points):
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})


def test_a_window_that_is_left_lets_all_keys_go(page, server):
    keys(page).key_down("w").key_down("d").perform()
    until(lambda: server.stage.visitors.player.held.keys == ("W", "D"))
    page.switch_to.new_window("tab")
    until(lambda: server.stage.visitors.player.held.keys == ())


def test_a_slow_window_drops_frames_and_does_not_fall_behind(page):
    page.execute_script(
        "window.gate = new Promise(open => { window.open_gate = open }); window.count = received.length"
    )
    block = wait(page, "told.findLast(message => message.type === 'status').block + 1") - 1
    wait(page, f"told.findLast(message => message.type === 'status').block >= {block + 3}")
    assert page.execute_script("return received.length - count") <= 2  # the credits
    page.execute_script("open_gate()")
    wait(page, "received.length > count + 6")
    late = page.execute_script("return received.slice(count + 2).map(({block, dropped}) => [block, dropped])")
    # A status comes before the first frame of its block. Of two blocks all but the credits and the newest are dropped.
    assert late[0][0] >= block + 2 and late[0][1] >= 2 * 12 - 3
    newest = "return [received.at(-1).block, told.findLast(message => message.type === 'status').block]"
    seen, shown = page.execute_script(newest)
    assert seen >= shown - 1
    wait(page, "document.getElementById('figure-dropped').textContent === String(received.at(-1).dropped)")


def test_a_lost_line_comes_back_with_the_same_session(page, server):
    keys(page).key_down("w").perform()
    felt(page)
    before = page.execute_script("return told[0].sid")
    page.execute_script("line.close(); window.count = received.length")
    wait(page, "told.filter(message => message.type === 'hello').length === 2")
    assert page.execute_script("return told.findLast(message => message.type === 'hello')")["sid"] == before
    assert find(page, "role").text == "you play"
    until(lambda: server.stage.visitors.player.held.keys == ())  # W has to be pressed anew
    keys(page).key_up("w").key_down("d").perform()
    last = page.execute_script("return received[count - 1].block")
    assert felt(page) > last and server.stage.visitors.player.held.keys == ("D",)
    page.refresh()
    wait(page, "received.some(frame => !frame.still)")
    assert page.execute_script("return told[0].sid") == before
    assert problems(page) == []


def test_a_doubled_window_takes_over_and_an_idle_session_ends(page, server, open_page, config):
    first, sid = page.current_window_handle, page.execute_script("return told[0].sid")
    page.switch_to.new_window("tab")
    mine = {"source": f"sessionStorage.setItem('session', '{sid}')"}
    script = page.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", mine)
    open_page(server.link)
    wait(page, "document.getElementById('role').textContent === 'you play'")
    page.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)
    page.switch_to.window(first)
    wait(page, "document.getElementById('notice').textContent.startsWith('This session was opened in another window')")
    config.serving.idle_timeout = 1.0
    with served(config) as impatient:
        page.get(impatient.link)
        wait(page, "document.getElementById('connection').textContent === 'ended'")
        assert "nothing was pressed for so long" in find(page, "notice").text
        impatient.stage.visitors.idle_timeout = HANG_SECONDS
        page.refresh()
        wait(page, "document.getElementById('role').textContent === 'you play'")
        assert problems(page) == ["The session from before has ended on the server; this is a new one."]
        page.get("about:blank")


def test_a_second_visitor_watches_until_it_is_his_turn(page, server, open_page):
    player = page.current_window_handle
    page.switch_to.new_window("tab")
    open_page(server.link)
    wait(page, "document.getElementById('role').textContent === 'you watch'")
    wait(page, "received.filter(frame => !frame.still).length > 2")
    keys(page).send_keys("w").perform()
    assert said(page) == [] and not find(page, "pause").is_enabled()
    find(page, "ask").click()
    wait(page, "document.getElementById('role').textContent.includes('1 before you play')")
    watcher = page.current_window_handle
    page.switch_to.window(player)
    wait(page, "document.getElementById('role').textContent === 'you play, 1 waiting'")
    find(page, "leave").click()
    wait(page, "document.getElementById('role').textContent === 'you watch'")
    page.switch_to.window(watcher)
    wait(page, "document.getElementById('role').textContent === 'you play'")
    keys(page).key_down("w").perform()
    felt(page)


def test_pages_of_others_and_wrong_tokens_are_refused(chromium, config, server):
    chromium.switch_to.new_window("tab")
    try:
        chromium.get("data:text/html,<title>elsewhere</title>")
        closed = """
        const [address, done] = arguments, line = new WebSocket(address);
        line.onopen = () => done("open");
        line.onclose = () => done("closed");"""
        assert chromium.execute_async_script(closed, server.link.replace("http", "ws") + "ws") == "closed"
        assert server.stage.visitors.player is None
        config.serving.require_token = True
        with served(config) as secret:
            chromium.get(secret.link + "x")
            assert "the token is missing or wrong" in chromium.find_element("tag name", "body").text
            chromium.get(secret.link)
            wait(chromium, "document.getElementById('role').textContent === 'you play'")
            line = secret.link.replace("http", "ws").replace("/?", "/ws?")
            assert chromium.execute_async_script(closed, line) == "open"
            assert chromium.execute_async_script(closed, line + "x") == "closed"
            config.serving.port = int(secret.link.split(":")[2].split("/")[0])
        wait(chromium, "document.getElementById('connection').textContent.startsWith('connection lost')")
        with served(config):
            wait(chromium, "document.getElementById('connection').textContent === 'refused'")
            assert "Open the link that the server printed" in find(chromium, "notice").text
    finally:
        chromium.close()
        chromium.switch_to.window(chromium.window_handles[0])
        chromium.get_log("browser")  # which tells of each refusal


def test_a_dropped_picture_is_begun_from_and_what_is_none_is_named(page, server):
    drop = """
    const [bytes, name, type, done] = arguments, data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(atob(bytes), letter => letter.charCodeAt())], name, {type}));
    document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
    """
    page.execute_script(drop, "", "notes.txt", "text/plain")
    assert problems(page) == ["notes.txt is no picture and no saved state, so it was not sent."]
    file = io.BytesIO()
    Image.new("RGB", (112, 64), (90, 90, 90)).save(file, "PNG")
    page.execute_script(drop, base64.b64encode(file.getvalue()).decode(), "grey.png", "image/png")
    wait(page, "document.querySelector('#gallery [value=uploaded]')?.checked")
    page.execute_script("document.getElementById('seed').value = 5")
    find(page, "start").click()
    wait(page, "received.some(frame => frame.still && frame.block === 0 && received.indexOf(frame) > 0)")
    count = page.execute_script("return received.findLastIndex(frame => frame.still)")
    wait(page, f"received.length > {count + 3}")
    _, pictures = frames(page)
    assert np.abs(pictures[count].astype(int) - 90).max() <= 2
    assert nearest(pictures[count + 1 :], open_place(95, FREE)[None])[1].max() < JPEG_LOSS
    wait(page, "document.getElementById('figure-seed').textContent === '5'")
    assert said(page, "start") == [{"type": "start", "seed": 5, "picture": "uploaded"}]


def test_one_goes_back_to_a_block_and_takes_another_way(page, server):
    start = camera_of(server)
    keys(page).key_down("w").perform()
    first = felt(page)
    keys(page).key_up("w").perform()
    page.find_element("id", "pause").click()
    wait(page, "told.findLast(message => message.type === 'status').paused")
    wait(page, f"document.querySelector('#blocks li:nth-child({first + 1}) button:enabled')")
    page.execute_script("window.count = received.length")
    page.find_element("css selector", f"#blocks li:nth-child({first + 1}) button").click()
    wait(page, "received.slice(count).some(frame => frame.still)")
    assert len(page.find_elements("css selector", "#blocks li")) == first + 1
    assert np.array_equal(camera_of(server), start)
    keys(page).key_down("a").perform()
    until(lambda: server.stage.visitors.player.held.keys == ("A",))
    find(page, "step").click()
    wait(page, f"received.slice(count).some(frame => frame.frame === {begin(first + 1) - 1})")
    _, pictures = frames(page)
    left = FREE.follow_actions(start, np.array([(0, 0, 1, 0)] * 12), np.zeros((12, 2)))
    steps, errors = nearest(pictures[-1:], left)
    assert (steps[0], errors[0] < JPEG_LOSS) == (11, True)
    assert said(page, "back") == [{"type": "back", "block": first}]


def test_files_of_the_session_come_as_they_are_on_the_server(page, server):
    find(page, "record").click()
    wait(page, "!document.getElementById('recording').hidden")
    assert page.switch_to.active_element == find(page, "canvas")  # so that the next Space does not press it again
    wait(page, "(made => made && received.at(-1).block > made.block + 1)(window.made ??= received.at(-1))")
    find(page, "record").click()
    wait(page, "!document.getElementById('video').disabled")
    find(page, "pause").click()
    wait(page, "told.findLast(message => message.type === 'status').paused")
    for count, name in enumerate(("script", "video", "video-keys")):
        find(page, name).click()
        wait(page, f"files.length === {count + 1}")
    read = """
    const [index, done] = arguments;
    files[index].arrayBuffer().then(all => done(Array.from(new Uint8Array(all))));"""
    script, *videos = [bytes(page.execute_async_script(read, index)) for index in range(3)]
    player = server.stage.visitors.player
    assert script.decode() == player.session.log.text()
    assert videos == [path.read_bytes() for path in player.videos]
    assert problems(page) == []


def test_it_speaks_two_languages_and_fits_a_phone(page):
    words = page.execute_async_script("import('/static/texts.js').then(module => arguments[0](module.TEXTS))")
    assert words["en"].keys() == words["zh"].keys()
    assert words["zh"]["labels"] == CHINESE.labels
    places = [
        {name: set(re.findall(r"\{\w+\}", text)) for name, text in words[lang].items() if name != "labels"}
        for lang in words
    ]
    assert places[0] == places[1]
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    for text in ("暂停", "Pause"):
        find(page, "language").click()
        assert find(page, "pause").text == text
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    wait(page, "canvas.getBoundingClientRect().width === 336")  # 6 device pixels for each of the world's
    find(page, "help").click()
    assert "look left" in find(page, "help-dialog").text
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
