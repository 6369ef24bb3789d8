"""Where a model is evaluated."""

from collections.abc import Sequence

import torch

from openmm_allegro.cores import allowed_cores, limit_threads


def chosen_device(name: str | torch.device) -> torch.device:
    """The device of this name, if it is here; "auto" takes a CUDA device if there is one.

    A CUDA device without a number is PyTorch's current one, by its number: OpenMM asks for forces in a thread of its
    own, where another device may be the current one. Torch gets no more threads than this process may use cores.
    """
    limit_threads(allowed_cores())
    name = str(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name not in available and not (name == "cuda" and len(available) > 1):
        raise ValueError(f"`device` is {name!r}, but here are only {', '.join(available)}")
    if name == "cuda":
        return torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_initialized() else 0)
    return torch.device(name)


def chosen_devices(names: str | torch.device | Sequence[str]) -> list[torch.device]:
    """The devices of these names; one name, or several CUDA devices that share the work."""
    if isinstance(names, str | torch.device):
        return [chosen_device(names)]
    devices = [chosen_device(name) for name in names]
    if not devices:
        raise ValueError("`device` is an empty list; name a device, or leave it 'auto'")
    if len(devices) > 1 and any(device.type == "cpu" for device in devices):
        raise ValueError(
            f"`device` is {list(names)}; a list is for several CUDA devices, the processor's cores are shared anyway "
            "(`torch.set_num_threads`)"
        )
    if len(set(devices)) < len(devices):
        raise ValueError(f"`device` is {list(names)}, which names one device twice")
    return devices
