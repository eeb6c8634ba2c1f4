"""The page as a file: what it holds is what was found, whatever the names; nothing of others is replaced by it."""

import errno
import json
import logging
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimicmotion.errors import InputError, SetupError, UsageError
from mimicmotion.gallery import refresh_page, write_page
from mimicmotion.gallery.page import offered, page_data, shown, url
from mimicmotion.gallery.records import find_records
from tests.gallery.standins import animation, put

ODD = ["</script><script>alert(1)</script>", "<!--", "\u2028\u2029", "\"'&amp;", "🕺", "\x00\x1b", "\udcff"]


class Elements(HTMLParser):
    """The names of all elements of a page, and the text of the one with its data."""

    def __init__(self):
        super().__init__()
        self.names, self.data, self._inside = [], "", False

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self._inside = dict(attributes).get("id") == "data"

    def handle_data(self, data):
        self.data += data if self._inside else ""


def read_page(path):
    elements = Elements()
    elements.feed(path.read_text(encoding="utf-8"))
    return elements.names, json.loads(elements.data)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "source.bin"
    path.write_bytes(b"video")
    return path


def test_the_page_holds_what_was_found_whatever_is_written_there(tmp_path, video):
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    plain_elements, _ = read_page(write_page(outputs))
    put(outputs, "a", video, animation("a", **{word: word for word in ODD}))
    message = "".join(ODD)
    items = [{"video": message, "output": "b", "status": "failed", "message": message}]
    (outputs / "run.json").write_text(json.dumps({"items": items}))
    path = write_page(outputs)
    elements, data = read_page(path)
    assert elements == plain_elements
    facts = dict(data["pairs"][number] for number in data["results"][0]["facts"])
    assert {word: facts[word] for word in ODD} == {word: word for word in ODD}
    assert data["not_made"][0]["message"] == message
    assert [name.name for name in outputs.iterdir() if name.name.startswith(".")] == []


def test_facts_that_neighbours_share_are_written_once(tmp_path, video):
    for seed in range(20):
        put(tmp_path / "outputs", f"clip{seed}", video, animation("clip", seed=seed))
    data = page_data(find_records(tmp_path / "outputs"))
    assert len(data["pairs"]) < 20 * 4
    facts = [dict(data["pairs"][number] for number in result["facts"]) for result in data["results"]]
    assert sorted(fact["seed"] for fact in facts) == list(range(20))
    assert all(fact["settings.turbo.scheduler"] == "AnimateLCM_SVD" for fact in facts)


def test_only_settings_that_differ_are_offered(tmp_path, video):
    outputs = tmp_path / "outputs"
    put(outputs, "a", video, animation("a", frames=5, settings={"turbo": {"scheduler": "AYS"}, "pose": {"lost": 1}}))
    put(outputs, "b", video, animation("b", frames=9, settings={"turbo": {"scheduler": "AYS"}, "pose": {"lost": True}}))
    assert offered(find_records(outputs).results) == ["settings.pose.lost"]
    put(outputs, "c", video, animation("c", steps=8))
    # What was asked for gives way to what was used; the most telling comes first.
    assert offered(find_records(outputs).results) == ["settings.turbo.scheduler", "steps", "settings.pose.lost"]
    assert offered([]) == []


NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: not re.search(rb"[/\0]", name) and name not in (b".", b"..")
)


@given(NAMES)
def test_an_address_leads_back_to_its_file(name):
    path = Path("a folder") / os.fsdecode(name)
    parts = urlsplit(url(path))
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert unquote_to_bytes(parts.path) == b"./a folder/" + name
    assert shown(path).encode("utf-8").decode("utf-8") == shown(path)


def test_a_page_of_somebody_else_stays(tmp_path, caplog):
    page = tmp_path / "index.html"
    page.write_text("<!doctype html><title>My own</title>")
    with pytest.raises(InputError, match=r"index\.html is no page of results"):
        write_page(tmp_path)
    with caplog.at_level(logging.WARNING):
        refresh_page(tmp_path)
    assert "is not written" in caplog.text and page.read_text() == "<!doctype html><title>My own</title>"
    page.unlink()
    assert write_page(tmp_path) == write_page(tmp_path) == page


def test_a_page_that_cannot_be_written_is_an_error_and_at_the_end_of_a_run_a_warning(tmp_path, monkeypatch, caplog):
    with pytest.raises(UsageError, match="no such folder"):
        write_page(tmp_path / "nowhere")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mimicmotion.files.os.replace", full)
    with pytest.raises(SetupError, match="the disk is full"):
        write_page(tmp_path)
    with caplog.at_level(logging.WARNING):
        refresh_page(tmp_path)
    assert "the disk is full" in caplog.text
    assert list(tmp_path.iterdir()) == []
