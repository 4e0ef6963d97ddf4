"""The device: chosen, seeded and said."""

import platform

import pytest
import torch
from helpers import needs_cuda, refusal

from mnist_adder import devices
from mnist_adder.devices import available_devices, device_name, gpu_check


def test_gpu_check_reports_seeds_and_returns(capsys):
    device = gpu_check(7, "cpu")
    drawn = torch.rand(3)
    assert device == torch.device("cpu")
    printed = capsys.readouterr().out
    for part in ("device: CPU", torch.__version__, platform.python_version(), "seed 7"):
        assert part in printed
    gpu_check(7, "cpu")
    assert torch.equal(torch.rand(3), drawn)
    gpu_check(8, "cpu")
    assert not torch.equal(torch.rand(3), drawn)


@pytest.mark.parametrize(("present", "kinds"), [(True, ["mps", "cpu"]), (False, ["cpu"])])
def test_auto_takes_the_accelerator_where_there_is_one(present, kinds, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: present)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("mps"))
    assert available_devices() == kinds
    assert gpu_check().type == kinds[0]


@pytest.mark.parametrize("device", ["cuda", "tpu", ""])
def test_a_device_that_is_not_there_is_refused(device, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    message = refusal(gpu_check, device=device)
    assert f"no device '{device}' here: choose auto or cpu" in message


@pytest.mark.parametrize("seed", [-1, 2**63, 0.5, True])
def test_a_seed_that_torch_does_not_take_is_refused(seed):
    assert "a seed must be a whole number" in refusal(gpu_check, seed, "cpu")


def test_deterministic_kernels():
    try:
        gpu_check(0, "cpu", deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


@needs_cuda
def test_gpu_check_names_the_gpu(capsys):
    assert gpu_check(0, "cuda").type == "cuda"
    assert torch.cuda.get_device_name() in capsys.readouterr().out


@pytest.mark.parametrize(("count", "words"), [(1, "1 thread)"), (4, "4 threads)")])
def test_the_cpu_is_named_with_its_threads(count, words, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    monkeypatch.setattr(devices, "processor", lambda: "Some CPU")
    assert device_name(torch.device("cpu")) == f"CPU (Some CPU, {words}"
