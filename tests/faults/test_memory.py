"""When memory runs out, whoever says so, the user hears it with the remedy."""

import numpy as np
import pytest
import torch

from mimicmotion.cli import exit_code_of
from mimicmotion.errors import OUT_OF_MEMORY, is_out_of_memory

FAR_TOO_MUCH = 2**50


def raised(work):
    with pytest.raises((MemoryError, RuntimeError, ImportError)) as caught:
        work()
    return caught.value


def of_a_library():
    raise ImportError("libtorch_cpu.so: failed to map segment from shared object")


@pytest.mark.parametrize(
    "work",
    [
        lambda: torch.empty(FAR_TOO_MUCH, dtype=torch.uint8),
        lambda: np.empty(FAR_TOO_MUCH, np.uint8),
        lambda: bytearray(FAR_TOO_MUCH),
        of_a_library,
    ],
)
def test_each_library_is_understood(work, caplog):
    assert is_out_of_memory(raised(work))
    assert exit_code_of(work) == 3
    assert OUT_OF_MEMORY in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ImportError("no module"), ValueError("memory")])
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)
