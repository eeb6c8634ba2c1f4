import logging

import psutil
import pytest
import torch

from mimicmotion import device
from mimicmotion.errors import SetupError, UsageError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def machine(monkeypatch):
    """Pretends that the machine has so many GPUs, or MPS."""

    def pretend(gpus=0, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda index=None: "Pretended GPU")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("gpus", "mps", "expected"), [(1, False, "cuda"), (1, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_the_best_device_there_is(machine, gpus, mps, expected):
    machine(gpus, mps)
    assert device.resolve_device("auto").type == expected


def test_the_choice_and_its_reason_are_logged(machine, caplog):
    machine()
    with caplog.at_level(logging.INFO):
        device.resolve_device("auto")
    assert "cpu" in caplog.text and "neither CUDA nor MPS" in caplog.text


@pytest.fixture
def threads(monkeypatch):
    """Pretends that torch computes with so many threads, and that variables say so."""

    def pretend(count, **variables):
        for name in device.THREAD_LIMITS:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch, "get_num_threads", lambda: count)

    return pretend


@pytest.mark.parametrize(
    ("name", "count", "variables", "line"),
    [
        ("auto", 1, {}, "device: cpu, 1 thread (neither CUDA nor MPS is available)"),
        ("auto", 2, {}, "device: cpu, 2 threads (neither CUDA nor MPS is available)"),
        (
            "auto", 1, {"OMP_NUM_THREADS": "1"},
            "device: cpu, 1 thread (neither CUDA nor MPS is available; OMP_NUM_THREADS=1)",
        ),
        ("cpu", 2, {"MKL_NUM_THREADS": "2"}, "device: cpu, 2 threads (as asked; MKL_NUM_THREADS=2)"),
        ("cpu", 4, {"OMP_NUM_THREADS": "8"}, "device: cpu, 4 threads (as asked)"),
    ],
)  # fmt: skip
def test_the_log_says_truly_why(name, count, variables, line, machine, threads, caplog):
    machine()
    threads(count, **variables)
    with caplog.at_level(logging.INFO):
        device.resolve_device(name)
    assert [record.getMessage() for record in caplog.records] == [line]


def test_a_device_may_be_given_as_such(machine, caplog):
    machine(gpus=2)
    with caplog.at_level(logging.INFO):
        assert device.resolve_device(torch.device("cuda:1")) == torch.device("cuda:1")
    assert not caplog.records, "it was chosen before"


@pytest.mark.parametrize(("name", "gpus"), [("cuda", 0), ("cuda:0", 0), ("cuda:2", 2), ("mps", 1)])
def test_an_absent_device_is_a_setup_error_with_a_remedy(machine, name, gpus):
    machine(gpus)
    with pytest.raises(SetupError, match=r"not available.*--device"):
        device.resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta"])
def test_an_unknown_device_is_a_usage_error(name):
    with pytest.raises(UsageError, match="unknown device"):
        device.resolve_device(name)


@pytest.mark.parametrize(
    ("name", "where", "expected"),
    [
        ("auto", "cuda", torch.float16),
        ("auto", "cpu", torch.float32),
        ("auto", "mps", torch.float32),
        ("fp32", "cuda", torch.float32),
        ("fp16", "mps", torch.float16),
        ("bf16", "cpu", torch.bfloat16),
    ],
)
def test_dtypes(name, where, expected):
    assert device.resolve_dtype(name, torch.device(where)) == expected


def test_fp16_on_a_cpu_is_refused_with_a_remedy():
    with pytest.raises(UsageError, match="--dtype fp32"):
        device.resolve_dtype("fp16", CPU)


def test_bf16_on_a_gpu_without_it_is_refused(machine, monkeypatch):
    machine(gpus=1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    with pytest.raises(SetupError, match="no bf16"):
        device.resolve_dtype("bf16", CUDA)


def test_an_unknown_dtype_names_the_known_ones():
    with pytest.raises(UsageError, match="auto, fp32, fp16, bf16"):
        device.resolve_dtype("half", CPU)


def test_peak_memory_of_a_process_is_in_bytes_and_no_less_than_it_has_now():
    now = psutil.Process().memory_info().rss
    assert 0.9 * now <= device.peak_memory(CPU) <= psutil.virtual_memory().total


def test_synchronize_on_a_cpu_returns():
    device.synchronize(CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_memory_is_counted():
    torch.cuda.reset_peak_memory_stats()
    before = device.peak_memory(CUDA)
    torch.zeros(1 << 20, device=CUDA)
    device.synchronize(CUDA)
    assert device.peak_memory(CUDA) >= before + (4 << 20)
