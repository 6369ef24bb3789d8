"""Where a model is evaluated."""

import torch


def chosen_device(name: str) -> torch.device:
    """The device of this name, if it is here; "auto" takes a CUDA device if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name not in available and not (name == "cuda" and len(available) > 1):
        raise ValueError(f"`device` is {name!r}, but here are only {', '.join(available)}")
    return torch.device(name)
