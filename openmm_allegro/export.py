"""TorchScript for OpenMM: a potential in OpenMM's units, for one system, as a module and as a file.

Symbols used in this file
    N  particles of the System        n  atoms that the model acts on
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from openmm_allegro import units
from openmm_allegro.checkpoint import write_whole
from openmm_allegro.potential import Potential
from openmm_allegro.scripted import ScriptedPotential
from openmm_allegro.torchscript import script, script_bytes


class ForceModule(torch.nn.Module):
    """A potential for one system in OpenMM's units: nm in, kJ/mol and kJ/mol/nm out.

    All conversions between the model's units and OpenMM's are here.
    """

    types: Tensor
    atoms: Tensor

    def __init__(
        self,
        potential: Potential | ScriptedPotential,
        types: Tensor,
        atoms: Tensor | None,
        periodic: bool,
        scaled: bool,
    ) -> None:
        """types: (n,) int64; atoms: (n,) int64 indices into the System, or None for all; scaled: by a parameter."""
        super().__init__()
        self.potential = potential
        self.periodic = periodic
        self.scaled = scaled
        self.subset = atoms is not None
        self.register_buffer("types", types)
        self.register_buffer("atoms", torch.arange(types.shape[0]) if atoms is None else atoms)
        self.last_atom = int(self.atoms.max())

    def forward(
        self, positions: Tensor, box_or_scale: Tensor | None = None, scale: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What `openmmtorch.TorchForce` calls.

        positions: (N, 3) [nm]; then the box vectors (3, 3) [nm] if periodic; then the scale () if there is one, which
        comes as (1,) and in the platform's precision on CUDA.
        Returns the energy () [kJ/mol] and the forces (N, 3) [kJ/mol/nm].
        """
        given = positions.data  # TorchForce asks for a graph, and in TorchScript `detach` does not prevent it
        positions = given.to(self.types.device)  # on OpenCL it gives them on the processor beside a module on CUDA
        n_particles = positions.shape[0]
        if self.subset and n_particles <= self.last_atom:
            raise ValueError(f"the System has {n_particles} particles, but this force acts on atom {self.last_atom}")
        if not self.subset and n_particles != self.types.shape[0]:
            raise ValueError(
                f"the System has {n_particles} particles, but this force was made for {self.types.shape[0]}; "
                "name the atoms it acts on with `atoms`"
            )
        chosen = positions[self.atoms] if self.subset else positions
        cell = torch.zeros((3, 3), dtype=positions.dtype, device=positions.device)
        if self.periodic:
            assert box_or_scale is not None
            cell = box_or_scale.to(positions.device)
        else:
            scale = box_or_scale
        energy, forces, _ = self.potential(
            chosen * units.NM_TO_ANGSTROM, cell * units.NM_TO_ANGSTROM, self.types, self.atoms
        )
        energy = energy * units.EV_TO_KJ_PER_MOL
        forces = forces.to(positions.dtype) * units.EV_PER_ANGSTROM_TO_KJ_PER_MOL_NM
        if self.scaled:
            assert scale is not None
            energy = energy * scale.squeeze().to(energy)
            forces = forces * scale.to(forces)
        if self.subset:
            forces = torch.zeros_like(positions).index_copy(0, self.atoms, forces)
        return energy, forces.to(given.device)


def export_torchscript(module: ForceModule, path: str | Path) -> None:
    """Write a force for one system as a TorchScript file for `openmmtorch.TorchForce(path)`.

    The program that opens it must have imported `vesin_torch`, where the neighbour list lives. The extra file
    `metadata.json` holds the model's configuration, the types and the units.
    """
    if isinstance(module.potential, ScriptedPotential):
        raise ValueError(
            "the model runs as it is, from a TorchScript file of nequip; export can write models of ours only"
        )
    config = module.potential.model.config
    metadata = {
        "format": "openmm-allegro TorchScript force",
        "format_version": 1,
        "dtype": str(module.potential.dtype).removeprefix("torch."),
        "skin_angstrom": module.potential.skin,
        "config": config.model_dump(mode="json"),
        "types": module.types.tolist(),
        "atoms": module.atoms.tolist() if module.subset else None,
        "periodic": module.periodic,
        "units": {"length": "nm", "energy": "kJ/mol", "forces": "kJ/mol/nm"},
        "torch": torch.__version__,
    }
    write_whole(path, script_bytes(script(module), {"metadata.json": json.dumps(metadata)}))
