"""A server of a true courtyard, in a thread, on a port of its own."""

import contextlib

import pytest

from mimicmotion.config import default_config
from mimicmotion.serving import Server, listening
from tests.serving.courtyard import Courtyard


@pytest.fixture
def config(tmp_path, monkeypatch):
    """Settings whose recordings go to a temporary folder. 120 frames a second: nobody looks."""
    config = default_config()
    config.output.output_dir = str(tmp_path / "outputs")
    config.output.page = False
    config.serving.port = 0
    config.streaming.config_path = config.serving.config_path
    config.streaming.fps = 120.0
    return config


@contextlib.contextmanager
def served(config, generator=None, **more):
    """A running server."""
    with (
        listening(config.serving.host, config.serving.port) as listener,
        Server(generator or Courtyard(), config, listener, **more) as server,
    ):
        yield server


@pytest.fixture
def server(config):
    """One whose world is the courtyard."""
    with served(config) as server:
        yield server
