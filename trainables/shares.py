"""A trial's share of a machine: how many threads it has, which part of a GPU, and what memory it has held."""

import ctypes
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Resources:
    """What a trial may use: logical CPUs (one thread each, at least one) and a share of a GPU."""

    cpu: float | int = 1
    gpu: float | int = 0


def claim_device(resources: Resources) -> "torch.device":
    """Sets this process's threads and its share of a GPU's memory, and returns the device to work on."""
    import torch

    torch.set_num_threads(max(1, int(resources.cpu)))
    if resources.gpu == 0 or not torch.cuda.is_available():
        return torch.device("cpu")
    if resources.gpu < 1:
        torch.cuda.set_per_process_memory_fraction(resources.gpu)
    return torch.device("cuda")


def peak_memory(device: "torch.device") -> int:
    """The most bytes that this process has held on the device since `forget_peak_memory`; on a CPU all its memory."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget_peak_memory(device: "torch.device") -> None:
    """Begins a new peak, since workers go from trial to trial. Of a CPU's only Linux can forget; elsewhere it stays."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def give_back_memory() -> None:
    """Hands what building a trial or reading a checkpoint has freed back to the system, where glibc would keep it."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
