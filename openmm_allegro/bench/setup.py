"""What is timed: a model, its force in a System, and where a simulation starts."""

import torch  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import numpy as np
import openmm
from openmm import unit
from vesin_torch import NeighborList

from openmm_allegro import units
from openmm_allegro.bench.config import BenchConfig
from openmm_allegro.bench.peers import Start
from openmm_allegro.checkpoint import dtype_of, load_model
from openmm_allegro.config import AllegroConfig
from openmm_allegro.force import AllegroForce
from openmm_allegro.model import Allegro
from openmm_allegro.structure import Structure

TEMPERATURE_K = 300.0
GAS_CONSTANT = 8.314462618e-3
"""[kJ/mol/K]."""


def model_of(config: BenchConfig, structure: Structure) -> Allegro:
    """The model of the file, or one with random weights for the structure's elements."""
    dtype = dtype_of(config.precision)
    if config.model is not None:
        return load_model(config.model, dtype)
    elements = {atom.element for atom in structure.topology.atoms()}
    options = AllegroConfig(
        type_names=tuple(element.symbol for element in sorted(elements, key=lambda element: element.atomic_number)),
        r_max=config.cutoff,
        l_max=config.l_max,
        num_layers=config.layers,
        num_scalar_features=config.scalars,
        num_tensor_features=config.channels,
        avg_num_neighbors=100e-3 * 4 / 3 * np.pi * config.cutoff**3,  # water has 100 atoms in a cubic nanometre
    )
    return Allegro(options, dtype)


def start_of(config: BenchConfig, structure: Structure, device: torch.device) -> Start:
    masses = np.array([atom.element.mass.value_in_unit(unit.dalton) for atom in structure.topology.atoms()])
    random = np.random.default_rng(config.seed)
    widths = np.sqrt(GAS_CONSTANT * TEMPERATURE_K / masses)[:, None]  # [nm/ps]
    velocities = widths * random.standard_normal((len(masses), 3))
    chosen = _platform(config, device)
    properties = {"Threads": str(config.threads)} if chosen.getName() == "CPU" and config.threads else {}
    if device.type == "cuda" and device.index is not None and "DeviceIndex" in chosen.getPropertyNames():
        properties["DeviceIndex"] = str(device.index)
    return Start(structure, velocities, config.timestep_fs / 1000, chosen, properties, device)


def force_of(config: BenchConfig, model: Allegro, structure: Structure) -> openmm.Force:
    return AllegroForce(
        model,
        structure.topology,
        bridge=config.bridge,
        device="auto" if config.bridge == "torchforce" else config.device,
        precision=config.precision,
        max_memory=config.max_memory,
        tabulate=config.tabulate,
    )


def system_of(structure: Structure, force: openmm.Force) -> openmm.System:
    system = openmm.System()
    for atom in structure.topology.atoms():
        system.addParticle(atom.element.mass)
    box = structure.topology.getPeriodicBoxVectors()
    if box is not None:
        system.setDefaultPeriodicBoxVectors(*box)
    system.addForce(force)
    return system


def count_edges(structure: Structure, cutoff: float) -> int:
    """Ordered pairs within the cutoff [Å], images included: what the model's networks see."""
    box = structure.topology.getPeriodicBoxVectors()
    cell = torch.zeros((3, 3), dtype=torch.float64)
    if box is not None:
        cell = torch.tensor([list(v.value_in_unit(unit.angstrom)) for v in box], dtype=torch.float64)
    positions = torch.as_tensor(structure.positions_nm * units.NM_TO_ANGSTROM, dtype=torch.float64)
    (centres,) = NeighborList(cutoff, full_list=False).compute(positions, cell, box is not None, "i")
    return 2 * len(centres)


def _platform(config: BenchConfig, device: torch.device) -> openmm.Platform:
    here = [openmm.Platform.getPlatform(index).getName() for index in range(openmm.Platform.getNumPlatforms())]
    name = config.platform
    if name == "auto":
        name = "CUDA" if device.type == "cuda" and "CUDA" in here else "CPU"
    if name not in here:
        raise ValueError(f"`platform` is {name}, but this OpenMM has only {', '.join(here)}")
    return openmm.Platform.getPlatform(name)
