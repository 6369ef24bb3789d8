"""A model file and a structure to a TorchScript file for openmm-torch."""

from pathlib import Path

import torch

from openmm_allegro import units
from openmm_allegro.atom_types import atom_types
from openmm_allegro.checkpoint import dtype_of
from openmm_allegro.ensemble_file import load_for_dynamics
from openmm_allegro.export import ForceModule, export_torchscript
from openmm_allegro.potential import Potential
from openmm_allegro.structure import read_structure


def export_file(
    model_path: Path | str,
    structure_path: Path | str,
    output: Path | str,
    precision: str = "single",
    skin_nm: float = 0.1,
) -> dict[str, object]:
    """Write the force of a model on all atoms of a structure for `openmmtorch.TorchForce(path)`.

    The file holds the types in the order of the structure's atoms. Returns what was written, for a reader.
    """
    topology = read_structure(structure_path).topology
    model = load_for_dynamics(model_path, dtype_of(precision))
    types = atom_types(model.config.type_names, topology)
    periodic = topology.getPeriodicBoxVectors() is not None
    potential = Potential(model, skin_nm * units.NM_TO_ANGSTROM)
    export_torchscript(ForceModule(potential, torch.tensor(types), None, periodic, scaled=False), output)
    return {"file": Path(output), "n_atoms": len(types), "periodic": periodic, "precision": precision}
