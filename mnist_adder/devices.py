"""Choose the device to train on, seed the random generators, and print both."""

import os
import platform
import re
from pathlib import Path

import torch

from .checks import check_seed
from .errors import InputError


def available_devices() -> list[str]:
    """Return the kinds of device that are here, the fastest first."""
    if torch.accelerator.is_available():
        return [torch.accelerator.current_accelerator().type, "cpu"]
    return ["cpu"]


def gpu_check(seed: int = 0, device: str = "auto", *, deterministic: bool = False) -> torch.device:
    """Choose the device, seed torch's random generators, print both, and return the device.

    "auto" takes the accelerator (CUDA, Apple's MPS, …) where there is one, else the CPU.
    `deterministic` asks for deterministic kernels, which the CPU has anyway. On CUDA, ask before
    any other work on the GPU, because cuBLAS reads its setting only once. Raise `InputError` for a
    device that is not there.
    """
    seed = check_seed(seed)
    available = available_devices()
    if device == "auto":
        device = available[0]
    if device not in available:
        raise InputError(
            f"there is no device {device!r} here: choose auto or {' or '.join(available)}"
        )
    chosen = torch.device(device)
    torch.manual_seed(seed)
    if deterministic:
        torch.use_deterministic_algorithms(True)
        if chosen.type == "cuda":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS requires it
    versions = f"torch {torch.__version__} | Python {platform.python_version()}"
    print(f"device: {device_name(chosen)} | {versions} | seed {seed}")
    return chosen


def device_name(device: torch.device) -> str:
    """Return the device in words, as a report of times must name it."""
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        return f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB), CUDA {torch.version.cuda}"
    threads = torch.get_num_threads()
    return f"{device.type.upper()} ({processor()}, {threads} thread{'s' if threads > 1 else ''})"


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (named := re.search(r"model name\s*: (.+)", cpuinfo.read_text())):
        return named[1]
    return platform.processor() or platform.machine()
