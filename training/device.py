"""Where a model runs."""

import torch


def chosen_device(name: str) -> str:
    """The device of this name, if it is here; "auto" takes a CUDA device if there is one."""
    here = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if name == "auto":
        return here[-1]
    if name not in here:
        raise ValueError(f"`device` is {name!r}, but here are only {', '.join(here)}")
    return name
