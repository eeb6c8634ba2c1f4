"""The page in headless Chromium, opened from the disk."""

import json
import os

import pytest

from mimicmotion.gallery import write_page
from tests.chromium import NEEDED, open_browser, wait
from tests.conftest import write_clip
from tests.gallery.standins import animation, put

NAMES = (
    "plain",
    "<img src=x onerror=alert(1)>",
    "quo\"tes' &amp; more",
    "100% #1? 🕺 a:b",
    "\u202eright\u2028to left",
    b"\xff",
)
REASON = "</script><script>alert(2)</script>"

pytestmark = NEEDED


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium, with what it says on its console."""
    with open_browser(tmp_path_factory.mktemp("chromium"), (1400, 2400)) as browser:
        yield browser


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two driving videos as results: 0.4 and 0.8 seconds long."""
    folder = tmp_path_factory.mktemp("clips")
    return [write_clip(folder / f"{count}.mp4", count=count) for count in (12, 24)]


@pytest.fixture(scope="module")
def odd(tmp_path_factory, clips):
    """A page of results with odd names, a video that is none, and an item that failed."""
    outputs = tmp_path_factory.mktemp("outputs")
    for seed, name in enumerate(NAMES):
        scheduler = "AYS" if seed % 2 else "AnimateLCM_SVD"
        put(outputs / "v%23 #", os.fsdecode(name), clips[seed % 2], animation("a", seed=seed, scheduler=scheduler))
    os.link(clips[1], outputs / "v%23 #" / "plain_comparison.mp4")
    (outputs / "no video.mp4").write_text("this is no video")
    (outputs / "no video.json").write_text(json.dumps(animation("no video", seed=100)))
    (outputs / "broken.mp4").touch()
    (outputs / "broken.json").write_text("{")
    items = [{"video": REASON, "output": "o", "status": "failed", "message": REASON}]
    (outputs / "run.json").write_text(json.dumps({"items": items}))
    return write_page(outputs)


@pytest.fixture
def page(browser, odd):
    """The browser at that page; nothing may be said on the console, and no markup of others may have run."""
    browser.get("about:blank")
    browser.get(odd.as_uri())
    yield browser
    # The video that is none is a message to the page, not one on the console.
    assert browser.get_log("browser") == []


def select(browser, css):
    return browser.find_elements("css selector", css)


def names(browser):
    """The names of the cards, as they stand there."""
    return browser.execute_script("return [...document.querySelectorAll('.card')].map(card => card.result.name)")


def test_names_and_reasons_stand_there_as_text_and_every_video_is_found(page):
    expected = [name if isinstance(name, str) else "\\xff" for name in NAMES]
    assert sorted(names(page)) == sorted([*expected, "no video"])
    wait(page, "[...document.querySelectorAll('.card')].every(card => card.querySelector('video')?.src)")
    script = "return [...document.querySelectorAll('h3')].map(h => h.textContent)"
    assert sorted(page.execute_script(script)) == sorted([*expected, "no video"])
    wait(page, "[...document.querySelectorAll('video')].filter(video => video.readyState >= 2).length === 6")
    wait(page, "document.querySelectorAll('.failure').length === 1")
    assert REASON in page.find_element("id", "not-made").text
    assert "broken.json" in page.find_element("id", "problems").text
    assert len(select(page, "script")) == 2 and not select(page, "h3 *")


def facet(page, label):
    """The check boxes of one setting, by their values."""
    script = """
    const facets = [...document.querySelectorAll('.facet')];
    const facet = facets.find(facet => facet.querySelector('summary').textContent === arguments[0]);
    return [...facet.querySelectorAll('label')].map(label => [label.querySelector('.value').textContent, label]);"""
    return dict(page.execute_script(script, label))


def test_it_filters_by_what_differs_and_searches_and_keeps_that_on_reload(page):
    assert page.execute_script("return data.offered") == ["settings.turbo.scheduler", "seed"]
    facet(page, "scheduler")["AYS"].click()
    assert len(names(page)) == 3
    assert page.find_element("id", "shown").text == "3 of 7 results"
    facet(page, "seed")["1"].click()
    facet(page, "seed")["3"].click()
    assert sorted(names(page)) == sorted([NAMES[1], NAMES[3]])
    page.refresh()
    assert sorted(names(page)) == sorted([NAMES[1], NAMES[3]])
    page.find_element("id", "clear").click()
    assert len(names(page)) == 7
    page.find_element("id", "search").send_keys("seed=4 lcm")
    assert names(page) == [NAMES[4]]
    page.find_element("id", "search").send_keys("x")
    assert names(page) == [] and page.find_element("id", "empty").is_displayed()


def test_it_sorts_by_settings(page):
    seeds = "return [...document.querySelectorAll('.card')].map(card => card.result.values.get('seed'))"
    page.execute_script("$('sort').value = 'seed'; $('sort').dispatchEvent(new Event('change'))")
    assert page.execute_script(seeds) == [0, 1, 2, 3, 4, 5, 100]
    page.find_element("id", "direction").click()
    assert page.execute_script(seeds) == [100, 5, 4, 3, 2, 1, 0]


def test_a_click_plays_and_another_one_pauses(page):
    page.find_element("id", "search").send_keys("plain")
    button = select(page, ".play")[0]
    button.click()
    wait(page, "document.querySelector('.play.playing video')?.currentTime > 0.1")
    button.click()
    wait(page, "document.querySelector('.play:not(.playing) video')?.paused")


def test_the_recipe_is_there_on_demand(page):
    page.find_element("id", "search").send_keys("plain")
    select(page, ".more")[0].click()
    rows = page.find_element("id", "recipe").text
    assert "settings.turbo.scheduler AnimateLCM_SVD" in " ".join(rows.split())
    comparison = next(button for button in select(page, "#recipe .links button") if button.text == "comparison")
    comparison.click()
    wait(page, "decodeURI(document.querySelector('#recipe video').currentSrc).endsWith('/plain_comparison.mp4')")
    page.find_element("id", "only").click()
    assert [row.text for row in select(page, "#recipe tbody tr")] == [
        "settings.turbo.scheduler AnimateLCM_SVD",
        "seed 0",
    ]
    select(page, "#recipe .close")[0].click()
    assert not page.find_element("id", "recipe").is_displayed()


TIMES = "[...document.querySelectorAll('#panels video')].map(video => video.currentTime)"


def test_several_play_side_by_side_in_step(page):
    for seed in (0, 1, 2):  # 0.4, 0.8 and 0.4 seconds long
        page.execute_script(f"choose(results.find(result => result.values.get('seed') === {seed}), true)")
    page.find_element("id", "compare").click()
    wait(page, "panels.length === 3 && panels.every(panel => panel.video.readyState >= 2)")
    assert wait(page, "leader.duration > 0.7")
    wait(page, f"{TIMES}.some(time => time > 0.1)")
    page.switch_to.active_element.send_keys(" ")
    assert page.find_element("id", "go").text == "Play"
    one, other, third = page.execute_script(f"return {TIMES}")
    assert one == third == min(other, page.execute_script("return panels[0].video.duration"))
    page.execute_script("$('seek').value = 0.2; $('seek').dispatchEvent(new Event('input'))")
    assert page.execute_script(f"return {TIMES}") == pytest.approx([0.2] * 3)
    page.find_element("id", "forth").click()  # frames of 1/15 s: the one after that of 0.2 s, in its middle
    assert page.execute_script(f"return {TIMES}") == pytest.approx([4.5 / 15] * 3)
    page.execute_script("$('seek').value = 0.7; $('seek').dispatchEvent(new Event('input'))")
    assert page.execute_script(f"return {TIMES}") == pytest.approx([0.4, 0.7, 0.4])  # shorter ones wait at their end
    page.find_element("id", "go").click()
    wait(page, f"Math.max(...{TIMES}) < 0.5")  # the longest has led them back to the beginning
    select(page, "#together .close")[0].click()
    wait(page, "document.querySelectorAll('#panels video').length === 0")


def test_of_2000_results_only_videos_near_the_view_are_opened(browser, clips, tmp_path):
    for number in range(2000):
        put(tmp_path / f"{number % 20}", f"clip{number:04}", clips[0], animation("a", seed=number // 100))
    browser.get(write_page(tmp_path).as_uri())
    assert browser.find_element("id", "shown").text == "2000 results"
    opened = "[...document.querySelectorAll('.card')].flatMap((card, i) => card.querySelector('video')?.src ? [i] : [])"
    first = wait(browser, f"(list => list.length > 3 && list)({opened})")
    assert max(first) < 60
    browser.execute_script("scrollTo(0, document.body.scrollHeight)")
    wait(browser, f"(list => list.length > 3 && Math.min(...list) > 1900)({opened})")
    assert browser.get_log("browser") == []
