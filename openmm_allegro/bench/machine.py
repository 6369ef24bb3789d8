"""What speed was measured on: the machine, the versions of what ran, and the memory taken."""

import contextlib
import importlib.metadata
import os
import platform
import resource
from pathlib import Path

import torch

PACKAGES = ("openmm_allegro", "torch", "openmm", "openmmtorch", "nequip", "nequip-allegro", "openmmml")


def peak_rss_gib() -> float:
    """Most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB


def versions() -> dict[str, str]:
    """Of the packages that are here."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def machine(device: torch.device) -> dict[str, object]:
    """Names of the processor and of the GPU, if the model runs on one."""
    names = [platform.processor() or platform.machine()]
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")] or names
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {"cpu": names[0], "cores": os.cpu_count(), "gpu": gpu}
