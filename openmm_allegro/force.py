"""AllegroForce: an Allegro model as an OpenMM Force."""

import math
import operator
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch  # before openmm, which bridges imports: see there

from openmm_allegro.bridges import choose_bridge, python_force, torch_force  # isort: skip
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import app, unit

from openmm_allegro import units
from openmm_allegro.checkpoint import DTYPES
from openmm_allegro.device import chosen_devices
from openmm_allegro.ensemble import Ensemble
from openmm_allegro.ensemble_file import dynamics_model
from openmm_allegro.export import ForceModule
from openmm_allegro.kernels import triton_problem
from openmm_allegro.model import Allegro
from openmm_allegro.model_file import loaded
from openmm_allegro.potential import Potential
from openmm_allegro.scripted import ScriptedModel, ScriptedPotential

PRECISIONS = {"single": "float32", "double": "float64"}
MEMORY_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def AllegroForce(  # noqa: N802 (reads as the Force class that it stands for)
    model: Allegro | Ensemble | ScriptedModel | str | Path,
    topology: app.Topology | None,
    *,
    model_units: tuple[str, str] | None = None,
    atoms: Sequence[int] | None = None,
    types: Sequence[str] | None = None,
    atomic_numbers: Sequence[int] | None = None,
    periodic: bool | None = None,
    system: openmm.System | None = None,
    bridge: str = "auto",
    device: str | Sequence[str] = "auto",
    precision: str = "single",
    skin: unit.Quantity | float = 0.1,
    max_memory: int | str | None = None,
    tabulate: bool | None = None,
    kernels: bool = False,
    scale_parameter: str | None = None,
    force_group: int = 0,
) -> openmm.Force:
    """Make an OpenMM Force of an Allegro model, ready for `system.addForce`.

    Parameters
    ----------
    model
        A model, or the path of a `.safetensors` file written by `openmm-allegro train`; or an ensemble, written by
        `openmm-allegro ensemble`, of which the mean acts. Or the path of a model trained with nequip-allegro 0.5-0.8:
        a `.ckpt`, `.nequip.zip` or `.nequip.pth`. Other `.nequip.pth`, as of NequIP, run as they are.
    topology
        Gives the elements and says whether the system is periodic; None needs `types` or `atomic_numbers`.
    model_units
        What a file of nequip was trained in, which it does not say: energy and length, as ('eV', 'angstrom').
    atoms
        Indices of the particles that the model acts on; None means all. The model sees these only.
    types
        Type names, one for each of those particles, where elements do not tell them.
    atomic_numbers
        The same by atomic number.
    periodic
        None takes it from the topology's box vectors.
    system
        The System that the force will be added to; when given, its size, its box and its other forces are checked
        against the topology.
    bridge
        'torchforce' (openmm-torch), 'python' (openmm.PythonForce), or 'auto': TorchForce where it works and there
        is a GPU, else PythonForce; the log says why.
    device
        Where the model is evaluated: 'auto', 'cpu', 'cuda', 'cuda:1', or several that share the atoms, as
        ['cuda:0', 'cuda:1']. TorchForce follows OpenMM; naming a device takes PythonForce.
    precision
        'single' or 'double', of the network and the forces; the energies of atoms are always added in float64.
    skin
        How far beyond the cutoff the neighbour list reaches [nm or a Quantity].
    max_memory
        Bound on what the evaluation may hold at once besides the neighbour list, in bytes or as '2 GiB'; on each
        device if there are several.
    tabulate
        Whether splines stand for the two-body network, where they give its slopes to 5e-7; None means in single
        precision, where rounding is larger.
    kernels
        Whether Triton kernels do the edge work, on a CUDA device. They have been checked in Triton's interpreter and
        compiled, but not timed on a GPU yet, so PyTorch's own operators are the default.
    scale_parameter
        Name of a global Context parameter, 1 by default, that multiplies the energy.
    force_group
        As in `Force.setForceGroup`.

    Returns
    -------
    openmm.Force
        A TorchForce or a PythonForce, named 'AllegroForce'. `getPotential().neighbors` of a PythonForce has `builds`
        and `updates`: neighbour lists built, and evaluations asked for.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` is {precision!r}; it can be 'single' or 'double'")
    dtype = DTYPES[PRECISIONS[precision]]
    model = loaded(model, model_units)
    if not isinstance(model, ScriptedModel):
        model = dynamics_model(model, dtype)
    indices = checked_atoms(atoms, topology)
    type_indices = atom_types(model.config.type_names, topology, indices, types, atomic_numbers)
    periodic = _check_periodic(periodic, topology)
    if system is not None:
        _check_system(system, topology, periodic)
    skin_nm = float(skin.value_in_unit(unit.nanometer) if isinstance(skin, unit.Quantity) else skin)
    if not 0 <= skin_nm < math.inf:
        raise ValueError(f"`skin` is {skin_nm} nm; it must be zero or more")
    if kernels and (problem := triton_problem()) is not None:
        raise ValueError(f"`kernels` is True, but {problem}")
    potential: Potential | ScriptedPotential
    if isinstance(model, ScriptedModel):
        _check_scripted(model, precision, max_memory, tabulate, kernels)
        potential = ScriptedPotential(model, skin_nm * units.NM_TO_ANGSTROM)
    else:
        potential = Potential(model, skin_nm * units.NM_TO_ANGSTROM, tabulate=tabulate, kernels=kernels)
        if max_memory is not None:
            potential.max_bytes = _bytes(max_memory)
    module = ForceModule(
        potential,
        torch.tensor(type_indices),
        None if indices is None else torch.tensor(indices),
        periodic,
        scale_parameter is not None,
    )
    if bridge == "auto" and device != "auto":
        bridge = "python"
    if choose_bridge(bridge, torch.cuda.is_available()) == "torchforce":
        if device != "auto":
            raise ValueError(
                f"`device` is {device!r}, but TorchForce evaluates where OpenMM's platform is; leave it 'auto' or "
                "take `bridge='python'`"
            )
        force = torch_force(module, scale_parameter)
    else:
        force = python_force(module, scale_parameter, chosen_devices(device))
    force.setForceGroup(force_group)
    force.setName("AllegroForce")
    return force


def checked_atoms(atoms: Sequence[int] | None, topology: app.Topology | None) -> list[int] | None:
    """The subset as a list, every index valid and named once."""
    if atoms is None:
        return None
    try:
        indices = [operator.index(index) for index in atoms]
    except TypeError as error:
        raise ValueError(f"`atoms` must be whole numbers, the indices of atoms: {error}") from error
    if any(isinstance(index, bool | np.bool_) for index in atoms):
        raise ValueError("`atoms` is a mask; give indices, for example `numpy.flatnonzero(mask)`")
    n_atoms = None if topology is None else topology.getNumAtoms()
    seen: set[int] = set()
    for index in indices:
        if index < 0:
            raise ValueError(f"`atoms` has the index {index}; atoms are counted from 0")
        if n_atoms is not None and index >= n_atoms:
            raise ValueError(f"`atoms` has the index {index}, but the topology has atoms 0 to {n_atoms - 1}")
        if index in seen:
            raise ValueError(f"`atoms` names atom {index} twice")
        seen.add(index)
    if not indices:
        raise ValueError("`atoms` is empty; leave it out to act on all atoms")
    return indices


def atom_types(
    known: tuple[str, ...],
    topology: app.Topology | None,
    atoms: list[int] | None = None,
    types: Sequence[str] | None = None,
    atomic_numbers: Sequence[int] | None = None,
) -> list[int]:
    """Type index of each atom that a model acts on, from given types or the topology's elements.

    known: type names of the model. Raises ValueError for an element that it does not know.
    """
    if types is not None and atomic_numbers is not None:
        raise ValueError("`types` and `atomic_numbers` are both given; give one of them")
    if atomic_numbers is not None:
        types = [_symbol(number) for number in atomic_numbers]
    if types is None:
        if topology is None:
            raise ValueError("there is no topology to take elements from; give `types` or `atomic_numbers`")
        types = _symbols(topology, atoms)
    expected = len(atoms) if atoms is not None else (topology.getNumAtoms() if topology is not None else len(types))
    if len(types) != expected:
        raise ValueError(f"there are {len(types)} types for {expected} atoms; give one for each atom of the model")
    numbers = atoms if atoms is not None else range(expected)
    for atom, name in zip(numbers, types, strict=True):
        if name not in known:
            raise ValueError(
                f"atom {atom} is {name}, but this model knows only {', '.join(known)}; "
                f"retrain with {name} or choose another model"
            )
    return [known.index(name) for name in types]


def _symbol(atomic_number: int) -> str:
    try:
        return app.Element.getByAtomicNumber(int(atomic_number)).symbol
    except KeyError as error:
        raise ValueError(f"`atomic_numbers` has {atomic_number}, which is no element") from error


def _symbols(topology: app.Topology, atoms: list[int] | None) -> list[str]:
    """Chemical symbols from a topology."""
    every = list(topology.atoms())
    chosen = every if atoms is None else [every[index] for index in atoms]
    for atom in chosen:
        if atom.element is None:
            raise ValueError(
                f"atom {atom.index} ({atom.name} of {atom.residue.name}) has no element; leave virtual sites out "
                "with `atoms`, or give `types`"
            )
    return [atom.element.symbol for atom in chosen]


def _check_scripted(
    model: ScriptedModel, precision: str, max_memory: int | str | None, tabulate: bool | None, kernels: bool
) -> None:
    """Refuse what a model that runs as it is cannot do."""
    if precision == "double" and model.dtype == torch.float32:
        raise ValueError(
            "`precision` is 'double', but the model runs as it is, which is in single precision; compile it anew from "
            "a checkpoint of float64, or leave `precision` out"
        )
    for name, value in (("max_memory", max_memory), ("tabulate", tabulate or None), ("kernels", kernels or None)):
        if value is not None:
            raise ValueError(
                f"`{name}` is {value}, but the model runs as it is, which knows no such thing; leave it out"
            )


def _check_periodic(periodic: bool | None, topology: app.Topology | None) -> bool:
    """Whether the force is periodic, with what contradicts the topology refused."""
    box = None if topology is None else topology.getPeriodicBoxVectors()
    if periodic is None:
        if topology is None:
            raise ValueError("there is no topology to say whether the system is periodic; give `periodic`")
        return box is not None
    if periodic and topology is not None and box is None:
        raise ValueError("`periodic` is True, but the topology has no box; call `topology.setPeriodicBoxVectors` first")
    if not periodic and box is not None:
        warnings.warn("the topology is periodic, but this force is asked not to be: it sees no images", stacklevel=3)
    return periodic


def _check_system(system: openmm.System, topology: app.Topology | None, periodic: bool) -> None:
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


def _edges(box_nm: NDArray[np.float64]) -> str:
    return " × ".join(f"{length:.4g}" for length in np.linalg.norm(box_nm, axis=1))


def _bytes(memory: int | str) -> int:
    """Bytes in '2 GiB' and the like."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|TiB)\s*", memory) if isinstance(memory, str) else None
    if match is not None:
        return int(float(match[1]) * MEMORY_UNITS[match[2]])
    if isinstance(memory, str) or not 0 < memory < math.inf:
        raise ValueError(f"`max_memory` is {memory!r}; write it as '2 GiB' or as a number of bytes above zero")
    return int(memory)
