"""Whether an OpenMM System, its topology and a force that is to be added agree."""

import warnings

import torch  # noqa: F401  # isort: skip  (before openmm: else TorchForce is not found)
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

WITHOUT_VIRIAL = ("CMMotionRemover", "AndersenThermostat")


def checked_periodic(periodic: bool | None, topology: app.Topology | None) -> bool:
    """Whether the force is periodic, with what contradicts the topology refused."""
    box = None if topology is None else topology.getPeriodicBoxVectors()
    if periodic is None:
        if topology is None:
            raise ValueError("there is no topology to say whether the system is periodic; give `periodic`")
        periodic = box is not None
    if periodic and topology is not None and box is None:
        raise ValueError("`periodic` is True, but the topology has no box; call `topology.setPeriodicBoxVectors` first")
    if not periodic and box is not None:
        warnings.warn("the topology is periodic, but this force is asked not to be: it sees no images", stacklevel=3)
    if periodic and topology is not None:
        _check_room(topology)
    return periodic


def _check_room(topology: app.Topology) -> None:
    """Refuse a box of less than 1 Å³ for each atom, such as files of molecules without one have in its place."""
    box = topology.getPeriodicBoxVectors()
    volume = np.linalg.det([list(vector.value_in_unit(unit.angstrom)) for vector in box])
    if volume < topology.getNumAtoms():
        raise ValueError(
            f"the topology has a periodic box of {volume:.3g} Å³ for {topology.getNumAtoms()} atoms; take it away by "
            "`topology.setPeriodicBoxVectors(None)`, or correct it"
        )


def check_system(system: openmm.System, topology: app.Topology | None, periodic: bool) -> None:
    """Refuse a System of another size or box than the topology, or with forces that contradict `periodic`."""
    if topology is not None and system.getNumParticles() != topology.getNumAtoms():
        raise ValueError(
            f"the System has {system.getNumParticles()} particles and the topology {topology.getNumAtoms()} atoms"
        )
    if periodic and topology is not None:
        boxes = (system.getDefaultPeriodicBoxVectors(), topology.getPeriodicBoxVectors())
        ours, theirs = (np.array([list(v.value_in_unit(unit.nanometer)) for v in box]) for box in boxes)
        if not np.allclose(ours, theirs, atol=1e-5):
            raise ValueError(
                f"the System's box has edges {_edges(ours)} nm and the topology's {_edges(theirs)} nm; call "
                "`system.setDefaultPeriodicBoxVectors(*topology.getPeriodicBoxVectors())`"
            )
    for force in system.getForces():
        # only forces with a cutoff must be periodic in a periodic system: bonds or a barostat say nothing
        contradicts = hasattr(force, "getCutoffDistance") if periodic else force.usesPeriodicBoundaryConditions()
        if contradicts and force.usesPeriodicBoundaryConditions() != periodic:
            other = "not periodic" if periodic else "periodic"
            raise ValueError(
                f"the System has a {type(force).__name__} that is {other}, but this force has `periodic` = {periodic}; "
                "make them agree"
            )


def check_pressures(system: openmm.System) -> None:
    """Refuse constraints, whose part of the pressure OpenMM does not tell, and warn of forces beside the model."""
    if system.getNumConstraints() > 0:
        raise ValueError(
            f"the System has {system.getNumConstraints()} constraints, and what they add to the pressure is not known; "
            "make it without them (`constraints=None, rigidWater=False`), with a shorter time step"
        )
    models, others = [], []
    for force in system.getForces():
        kind, name = type(force).__name__, force.getName()
        if kind == "PythonForce" or name in ("AllegroForce", "TorchForce"):  # OpenMM has no type for the latter
            models.append(name)
        elif kind not in WITHOUT_VIRIAL and not kind.startswith("MonteCarlo"):
            others.append(name)
    for name in others + models[1:]:
        warnings.warn(
            f"the System has a {name} beside the model, and its part of the pressure is left out of the tensor",
            stacklevel=3,
        )


def _edges(box_nm: NDArray[np.float64]) -> str:
    return " × ".join(f"{length:.4g}" for length in np.linalg.norm(box_nm, axis=1))
