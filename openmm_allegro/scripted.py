"""Deployed TorchScript of nequip, run as it is: NequIP, and what else cannot be had as a model of ours.

The file computes energies and forces with its own operators and precision; the neighbours come from our list.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from openmm_allegro.checkpoint import DTYPES
from openmm_allegro.neighbors import Neighbors
from openmm_allegro.torchscript import load_script


class ScriptedConfig(NamedTuple):
    """What must be known of a model that runs as it is."""

    type_names: tuple[str, ...]
    r_max: float
    """[Å]."""


@dataclass(frozen=True)
class ScriptedModel:
    """A deployed model."""

    config: ScriptedConfig
    content: bytes
    """The file."""
    dtype: torch.dtype
    """Of the arithmetic in it."""
    input_dtype: torch.dtype
    """Of positions and cells that it takes."""
    energy_ev: float
    """Its unit of energy [eV]."""
    length_angstrom: float
    """Its unit of length [Å]."""


def scripted_model(path: str | Path, energy_ev: float, length_angstrom: float) -> ScriptedModel:
    """A deployed model of nequip. energy_ev, length_angstrom: its units [eV], [Å]."""
    content = Path(path).read_bytes()
    extra = script_metadata(content)
    dtype = extra.get("model_dtype") or "float32"
    taken = extra.get("default_dtype") or ("float64" if "num_types" in extra else "float32")
    for name in (dtype, taken):
        if name not in DTYPES:
            raise ValueError(f"{path} computes in {name}; only float32 and float64 can be run")
    config = ScriptedConfig(tuple(extra["type_names"].split()), float(extra["r_max"]) * length_angstrom)
    return ScriptedModel(config, content, DTYPES[dtype], DTYPES[taken], energy_ev, length_angstrom)


def script_metadata(content: bytes) -> dict[str, str]:
    """What a deployed model says of itself; what it does not say is left out."""
    names = ("r_max", "type_names", "num_types", "n_species", "model_dtype", "default_dtype", "allow_tf32")
    more = ("per_edge_type_cutoff", "nequip_version", "torch_version", "config")
    extra = dict.fromkeys(names + more, "")
    load_script(content, extra)
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in extra.items()}
    return {name: text for name, text in texts.items() if text}


class ScriptedPotential(torch.nn.Module):
    """A deployed model with our neighbour list: positions in, energy, forces and virial out, as `Potential`."""

    def __init__(self, model: ScriptedModel, skin: float = 1.0) -> None:
        """skin: how far beyond the cutoff the neighbour list reaches [Å]."""
        super().__init__()
        self.network = load_script(model.content).eval()
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        self.model = model
        self.dtype = model.dtype
        self.input_dtype = model.input_dtype
        self.energy_ev, self.length_angstrom = model.energy_ev, model.length_angstrom
        self.skin = skin
        self.neighbors = Neighbors(model.config.r_max, skin)

    def forward(
        self, positions: Tensor, cell: Tensor, types: Tensor, numbers: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energy () [eV], forces (n, 3) [eV/Å] and virial (3, 3) [eV], all float64; arguments as of `Potential`.

        The virial is not a number where the model gives none, as without a cell.
        """
        pairs = self.neighbors(positions, cell, numbers)
        centres = torch.repeat_interleave(pairs.centres, pairs.counts)
        data = {
            "pos": (positions.to(torch.float64) / self.length_angstrom).to(self.input_dtype),
            "edge_index": torch.stack((centres, pairs.neighbour)),
            "atom_types": types,
        }
        cell = cell.to(torch.float64)
        if bool((cell != 0).any()):
            across = pairs.vectors - positions[pairs.neighbour] + positions[centres]
            data["edge_cell_shift"] = torch.round(torch.mm(across, torch.linalg.inv(cell))).to(self.input_dtype)
            data["cell"] = (cell / self.length_angstrom).to(self.input_dtype)
        plain = not torch.jit.is_scripting() and not positions.is_cuda
        found = self.unoptimized(data) if plain else self.network(data)
        energy = found["total_energy"].detach().to(torch.float64).sum() * self.energy_ev
        forces = found["forces"].detach().to(torch.float64) * (self.energy_ev / self.length_angstrom)
        virial = torch.full((3, 3), float("nan"), dtype=torch.float64, device=positions.device)
        if "virial" in found:
            virial = found["virial"].detach().to(torch.float64).reshape(3, 3) * self.energy_ev
        return energy, forces, virial

    @torch.jit.unused
    def unoptimized(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """The network as it stands: on a processor, TorchScript's optimiser takes seconds and makes it no faster."""
        with torch.jit.optimized_execution(False):
            return self.network(data)
