"""The device, the clock and, for a single process, what several would share."""

import platform

import pytest
import torch
from torch import nn

from mnist_adder import devices
from mnist_adder.checks import InputError
from mnist_adder.devices import Clock, available_devices, device_name, gpu_check, place
from mnist_adder.models import AdderNet

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_gpu_check_reports_seeds_and_returns(capsys):
    device = gpu_check(7, "cpu")
    drawn = torch.rand(3)
    assert device == torch.device("cpu")
    printed = capsys.readouterr().out
    for part in ("CPU", torch.__version__, platform.python_version(), "seed 7"):
        assert part in printed
    gpu_check(7, "cpu")
    assert torch.equal(torch.rand(3), drawn)
    gpu_check(8, "cpu")
    assert not torch.equal(torch.rand(3), drawn)


def test_gpu_check_takes_the_accelerator_where_there_is_one():
    expected = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
    assert gpu_check().type == available_devices()[0] == expected


@pytest.mark.parametrize("device", ["cuda", "mps", "tpu"])
def test_gpu_check_refuses_a_device_that_is_not_there(device, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"no {device} device here: use --device auto or --device cpu"):
        gpu_check(device=device)


def test_gpu_check_refuses_more_processes_than_gpus(monkeypatch):
    monkeypatch.setattr(devices, "available_devices", lambda: ["cuda", "cpu"])
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InputError, match="2 processes need as many devices, and there are 1"):
        gpu_check()


@needs_cuda
def test_gpu_check_names_the_gpu(capsys):
    assert gpu_check(0, "cuda").type == "cuda"
    assert torch.cuda.get_device_name() in capsys.readouterr().out


def test_the_cpu_is_named_with_its_threads():
    count = torch.get_num_threads()
    assert f"{count} thread{'s' if count > 1 else ''}" in device_name(torch.device("cpu"))


def test_a_network_is_placed_in_the_layout_it_asks_for():
    convolution = next(
        module
        for module in place(AdderNet(), "cpu").modules()
        if isinstance(module, nn.Conv2d) and module.in_channels > 1
    )
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert not convolution.weight.is_contiguous()
    assert place(nn.Conv2d(4, 4, 3), "cpu").weight.is_contiguous()


def test_the_clock_counts_only_what_is_inside_and_goes_on(monkeypatch):
    now = iter([10.0, 12.0, 50.0, 53.0])
    monkeypatch.setattr(devices.time, "perf_counter", lambda: next(now))
    clock = Clock(torch.device("cpu"))
    with clock:
        pass
    resumed = Clock(torch.device("cpu"))
    resumed.load_state_dict(clock.state_dict())
    with resumed:
        pass
    assert resumed.seconds == 5


def test_one_process_is_rank_0_of_1():
    model = AdderNet()
    assert (devices.rank(), devices.world_size()) == (0, 1)
    assert devices.distribute(model) is model
    assert devices.from_rank_0("digits") == "digits"
    total = torch.ones(2)
    devices.sum_over_processes(total)
    assert total.tolist() == [1, 1]
