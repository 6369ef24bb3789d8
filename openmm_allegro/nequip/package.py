"""Packages of nequip (`.nequip.zip`, made by `nequip-package`), read without running the code in them.

A package is a torch.package: pickles of modules together with the source code of their classes. Unpickling it the usual
way runs that code. Here each class of it becomes a `Saved`, a plain holder of what the pickle says of the object;
tensors are rebuilt, and nothing else is called.
"""

import collections
import io
import pickle
import textwrap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MODEL = "model/eager_model.pkl"
METADATA = "model/package_metadata.txt"
VERSIONS = "model/versions.txt"
STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Saved:
    """An object of a package: what its pickle says of it, under the names that a torch module has it under."""

    kind = "object"
    """Its class."""
    arguments: tuple[Any, ...]
    """What pickle would have made it with."""

    def __new__(cls, *arguments: object, **named: object) -> "Saved":
        """Keep the arguments and do nothing with them."""
        made = super().__new__(cls)
        made.__dict__["arguments"] = arguments
        return made

    def __init__(self, *arguments: object, **named: object) -> None:
        """The arguments are those of `__new__`."""

    def __setstate__(self, state: object) -> None:
        """Called by pickle with the attributes."""
        if isinstance(state, dict):
            self.__dict__.update({str(name): value for name, value in state.items()})

    def __getattr__(self, name: str) -> Any:
        """Parameters, buffers and parts by name, as in torch."""
        for table in ("_parameters", "_buffers", "_modules"):
            held = self.__dict__.get(table, {})
            if name in held:
                return held[name]
        raise AttributeError(f"{self.kind} has no `{name}`")

    def __iter__(self) -> Iterator[object]:
        """Over the items of what was a tuple of its own class, as e3nn's irreps are."""
        return iter(self.arguments[0])

    def __setitem__(self, name: object, value: object) -> None:
        """Items of what was a mapping of its own class are not needed."""

    def append(self, value: object) -> None:
        """Nor are those of a list."""

    def extend(self, values: object) -> None:
        """Likewise."""

    def named_children(self) -> Iterator[tuple[str, "Saved"]]:
        """Its parts."""
        for name, part in self.__dict__.get("_modules", {}).items():
            if part is not None:
                yield name, part

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """All trained weights, with dotted names."""
        return self._named("_parameters", "")

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """All other tensors, with dotted names."""
        return self._named("_buffers", "")

    def _named(self, table: str, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.__dict__.get(table, {}).items():
            if tensor is not None:
                yield prefix + name, tensor
        for name, part in self.named_children():
            if isinstance(part, Saved):
                yield from part._named(table, f"{prefix}{name}.")


def read_package(path: str | Path) -> tuple[Saved, dict[str, str]]:
    """The models in a package, and the versions of the packages that made it."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = names[0].split("/")[0]
        if f"{root}/{MODEL}" not in names:
            raise ValueError(f"{path} is a torch.package without `{MODEL}`, which nequip-package writes; make it again")
        if f"{root}/{METADATA}" in names:
            versions = _versions(archive.read(f"{root}/{METADATA}").decode())
        else:  # of nequip 0.7
            versions = _versions(f"versions:\n{textwrap.indent(archive.read(f'{root}/{VERSIONS}').decode(), '  ')}")
        reader = _Reader(archive, root, f"{root}/{MODEL}")
        try:
            found = reader.load()
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{path} cannot be read as a package of nequip ({error}); make it again") from error
    return found, versions


def _versions(text: str) -> dict[str, str]:
    """The table `versions` of a YAML text: its lines that are indented."""
    found: dict[str, str] = {}
    inside = False
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if not line.startswith(" "):
            inside = name == "versions"
        elif inside:
            found[name.strip()] = value.strip().strip("'")
    return found


class _Reader(pickle.Unpickler):
    """Reads a pickle of a package; nothing that it names is imported or called but what is listed here."""

    def __init__(self, archive: zipfile.ZipFile, root: str, name: str) -> None:
        super().__init__(io.BytesIO(archive.read(name)))
        self.archive = archive
        self.root = root

    def find_class(self, module: str, name: str) -> object:
        """What stands for a class or function that the pickle names."""
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        return type(name, (Saved,), {"kind": name})

    def persistent_load(self, pid: tuple[object, ...]) -> object:
        """The numbers of a tensor; other things that a package keeps outside of the pickle stay there."""
        if pid[0] != "storage":
            return Saved(*pid)
        dtype, key = pid[1], pid[2]
        content = bytearray(self.archive.read(f"{self.root}/.data/{key}.storage"))
        assert isinstance(dtype, torch.dtype)
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: object) -> Tensor:
    """As `torch._utils._rebuild_tensor_v2`."""
    return torch.as_strided(storage, tuple(size), tuple(stride), offset)


def _parameter(tensor: Tensor, *rest: object) -> Tensor:
    """As `torch._utils._rebuild_parameter`."""
    return tensor


ALLOWED: dict[tuple[str, str], object] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "list"): list,
    ("builtins", "dict"): dict,
    ("builtins", "tuple"): tuple,
}
