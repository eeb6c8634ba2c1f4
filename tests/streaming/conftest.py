"""What the streaming tests share."""

import numpy as np
import pytest
import torch

from tests.streaming.micro import make_generator


@pytest.fixture(scope="package", autouse=True)
def single_thread():
    """Micro tensors are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def english_terminal(monkeypatch):
    """Sessions speak English whatever the language of the terminal that the tests run in."""
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.fixture(scope="session")
def generator():
    """A universal micro generator; it holds no session, so tests can share it."""
    return make_generator()


@pytest.fixture(scope="session")
def picture():
    """uint8 (40, 60, 3)."""
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
