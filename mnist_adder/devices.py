"""The device, the processes that torchrun started, and the clock: what a training needs of the machine."""

import ctypes
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .checks import InputError, check_seed


def available_devices() -> list[str]:
    """The kinds of device that are here, the fastest first."""
    return [torch.accelerator.current_accelerator().type, "cpu"] if torch.accelerator.is_available() else ["cpu"]


def gpu_check(seed: int = 0, device: str = "auto", *, deterministic: bool = False) -> torch.device:
    """Choose the device, seed every random generator, print both, and return the device.

    "auto" takes the accelerator (CUDA, Apple's MPS, …) where there is one, else the CPU. `deterministic` asks for
    deterministic kernels, which the CPU has anyway. `InputError` for a bad seed, a device that is not there, or fewer
    devices than processes that torchrun started.
    """
    check_seed(seed)
    available = available_devices()
    if device not in ("auto", *available):
        raise InputError(f"there is no {device} device here: use --device auto or --device {available[0]}")
    chosen = torch.device(available[0] if device == "auto" else device)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it
        torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    if chosen.type != "cpu":
        count, processes = torch.accelerator.device_count(), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        if processes > count:
            raise InputError(f"{processes} processes need as many devices, and there are {count}: start fewer")
        chosen = torch.device(chosen.type, dist.get_node_local_rank(fallback_rank=0))
        torch.accelerator.set_device_index(chosen.index)
    versions = f"torch {torch.__version__} | Python {platform.python_version()}"
    print(f"device: {device_name(chosen)} | {versions} | seed {seed}")
    return chosen


def device_name(device: torch.device) -> str:
    """The device in words, as a report of times must name it."""
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        return f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB), CUDA {torch.version.cuda}"
    threads = torch.get_num_threads()
    return f"{device.type.upper()} ({processor()}, {threads} thread{'s' * (threads > 1)})"


def processor() -> str:
    """The name of the processor, as far as the system tells it; two of the same kind can differ threefold in speed."""
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return named[1] if named else platform.processor() or platform.machine()


def place(model: nn.Module, device: torch.device | str) -> nn.Module:
    """Move a network to a device; on the CPU in the memory layout in which it is fastest there."""
    if torch.device(device).type != "cpu":
        return model.to(device)
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):  # glibc gives freed memory back, to be handed it again page by page in the next step
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, at its most
        libc.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
    return model.to(device, memory_format=getattr(model, "memory_format", torch.contiguous_format))


class Clock:
    """Adds up the seconds that pass inside ``with clock:``, until the device has finished its work."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, 0.0

    def __enter__(self) -> None:
        self.seconds -= self._now()

    def __exit__(self, *_: object) -> None:
        self.seconds += self._now()

    def _now(self) -> float:
        if self.device.type in available_devices()[:-1]:
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    def state_dict(self) -> dict[str, float]:  # a checkpoint keeps it
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.seconds = state["seconds"]


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that torchrun started; only rank 0 prints, and torchrun ends all when one fails."""
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere) if rank() > 0 else nullcontext():
        yield
    dist.destroy_process_group()


def rank() -> int:
    """The number of this process among all, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def distribute(model: nn.Module) -> nn.Module:
    """The network as it is trained: with gradients averaged over all processes where there are several."""
    return DistributedDataParallel(model) if world_size() > 1 else model


def sum_over_processes(tensor: Tensor) -> None:
    """Add up a tensor over all processes, in place."""
    if dist.is_initialized():
        dist.all_reduce(tensor)


def from_rank_0(value: str | None) -> str | None:
    """The value that rank 0 gives; the others wait for it."""
    values = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(values)
    return values[0]
