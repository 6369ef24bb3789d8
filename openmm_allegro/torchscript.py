"""TorchScript, which openmm-torch, nequip's programs and threads without Python's lock take.

Newer torch warns in every call that it is deprecated. Nothing else serves these three yet, and users,
who can do nothing about it, do not see that.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def script(module: torch.nn.Module) -> torch.jit.ScriptModule:
    """Compile a module as it is evaluated, not trained."""
    with without_deprecation():
        return torch.jit.script(module.eval())


def script_bytes(module: torch.jit.ScriptModule, extra: dict[str, str] | None = None) -> bytes:
    """The content of its file, with texts by name beside it."""
    content = io.BytesIO()
    with without_deprecation():
        torch.jit.save(module, content, _extra_files=extra)
    return content.getvalue()


def load_script(content: bytes | Path | str, extra: dict[str, str] | None = None) -> torch.jit.ScriptModule:
    """Read one on the processor, from its content or its file. extra: the names in it get their texts."""
    file = io.BytesIO(content) if isinstance(content, bytes) else str(content)
    with without_deprecation():
        return torch.jit.load(file, map_location="cpu", _extra_files=extra)


@contextmanager
def without_deprecation() -> Iterator[None]:
    """For what calls TorchScript inside torch, too."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit")
        yield
