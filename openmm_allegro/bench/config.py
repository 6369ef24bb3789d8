"""Options of a speed measurement: which system, which model, where it runs, and beside whom."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Peer = Literal["openmm-ml", "nequip-aoti", "nequip-torchscript", "nequip"]
OF_DYNAMICS = frozenset(
    ("model", "system", "atoms", "max_seconds", "timestep_fs", "platform", "bridge", "max_memory", "tabulate")
)
"""Options that a measurement of training does not read."""


class BenchConfig(BaseModel):
    """Steps of dynamics at constant energy, timed one by one; without options 615 atoms of water on the CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    model: Path | None = None
    """Model file; without it one with random weights is made by the options below."""
    l_max: int = Field(default=2, ge=0)
    """Highest order of that model's spherical harmonics."""
    layers: int = Field(default=2, ge=1)
    """Its layers."""
    scalars: int = Field(default=64, ge=2)
    """Its scalar features."""
    channels: int = Field(default=32, ge=1)
    """Its tensor channels."""
    cutoff: float = Field(default=5.0, gt=0)
    """Its cutoff [Å]."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of its weights and of the first velocities."""

    system: Path | None = None
    """Structure file with the atoms; without it they are a box of water."""
    atoms: int = Field(default=615, ge=3)
    """Size of that box, rounded to whole molecules."""

    steps: int = Field(default=20, gt=0)
    """Timed steps; medians, lowest and highest are of these."""
    warmup: int = Field(default=5, gt=0)
    """Steps before them, which compile and build the neighbour list."""
    max_seconds: float = Field(default=120.0, gt=0)
    """Most seconds for the timed steps of each program; where this is short fewer are timed, but three at least."""
    timestep_fs: float = Field(default=0.5, gt=0)
    """Length of a step [fs]; atoms start with velocities of 300 K, so neighbours change as in a simulation."""

    platform: Literal["auto", "Reference", "CPU", "OpenCL", "CUDA", "HIP"] = "auto"
    """OpenMM's platform; `auto` takes CPU, or CUDA where `device` is a CUDA device."""
    device: str = "cpu"
    """Where the model runs: `auto`, `cpu`, `cuda` or `cuda:1`."""
    precision: Literal["single", "double"] = "single"
    """Precision of the model's arithmetic."""
    bridge: Literal["auto", "torchforce", "python"] = "python"
    """How OpenMM calls the model."""
    max_memory: str | None = None
    """Bound on what the evaluation holds at once, such as `2 GiB`: the size of its blocks."""
    tabulate: bool | None = None
    """Whether splines stand for the two-body network; in single precision when not given."""
    threads: int | None = Field(default=None, gt=0)
    """Threads on the CPU; as many as PyTorch takes when not given."""

    peer: Peer | None = None
    """Program to time on the same weights in the same run: `openmm-ml`, `nequip-aoti` or `nequip-torchscript`; with
    `train`, `nequip`."""

    train: bool = False
    """Time training instead of dynamics: frames per second, with data loading, metrics and moving average."""
    data: Path | None = None
    """Labelled frames that `train` reads."""
    batch_size: int = Field(default=5, gt=0)
    """Frames of one step of training."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for other, names in (
            ("model", {"l_max", "layers", "scalars", "channels", "cutoff"}),
            ("system", {"atoms"}),
        ):
            given = sorted(names & self.model_fields_set)
            if getattr(self, other) is not None and given:
                raise ValueError(f"`{given[0]}` is given, but the file named by `{other}` says it; leave one away")
        if self.train != (self.data is not None):
            raise ValueError("`train` and `data`, the file of its frames, go together; give both or neither")
        unread = sorted((OF_DYNAMICS if self.train else {"batch_size"}) & self.model_fields_set)
        if unread:
            raise ValueError(f"`{unread[0]}` has no effect {'with' if self.train else 'without'} `train`; leave it out")
        if self.peer is not None and self.train != (self.peer == "nequip"):
            raise ValueError(f"`peer` is {self.peer}, but `nequip` is the peer of training, and of training only")
        return self
