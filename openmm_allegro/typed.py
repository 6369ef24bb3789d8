"""For the type checker: a ModuleList that knows what it holds, which PyTorch's own does not say."""

from collections.abc import Iterator
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class ModulesOf(torch.nn.ModuleList, Generic[T]):
    """Only for `cast`; TorchScript wants plain ModuleLists."""

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        return super().__iter__()  # type: ignore[return-value]
