"""AllegroForce: an Allegro model as an OpenMM Force."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch  # before openmm, which bridges imports: see there

from openmm_allegro.bridges import choose_bridge, python_force, torch_force  # isort: skip
import openmm
from openmm import app, unit

from openmm_allegro import units
from openmm_allegro.checkpoint import DTYPES, load_model
from openmm_allegro.export import ForceModule
from openmm_allegro.model import Allegro
from openmm_allegro.potential import Potential, edge_memory

PRECISIONS = {"single": "float32", "double": "float64"}
MEMORY_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def AllegroForce(  # noqa: N802 (reads as the Force class that it stands for)
    model: Allegro | str | Path,
    topology: app.Topology | None,
    *,
    atoms: Sequence[int] | None = None,
    types: Sequence[str] | None = None,
    atomic_numbers: Sequence[int] | None = None,
    periodic: bool | None = None,
    system: openmm.System | None = None,
    bridge: str = "auto",
    device: str = "auto",
    precision: str = "single",
    skin: unit.Quantity | float = 0.1,
    max_memory: int | str | None = None,
    scale_parameter: str | None = None,
    force_group: int = 0,
) -> openmm.Force:
    """Make an OpenMM Force of an Allegro model, ready for `system.addForce`.

    Parameters
    ----------
    model
        A model, or the path of a `.safetensors` file written by `openmm-allegro train`.
    topology
        Gives the elements and says whether the system is periodic; None needs `types` or `atomic_numbers`.
    atoms
        Indices of the particles that the model acts on; None means all. The model sees these only.
    types
        Type names, one for each of those particles, where elements do not tell them.
    atomic_numbers
        The same by atomic number.
    periodic
        None takes it from the topology's box vectors.
    system
        When given, it is checked that it has as many particles as the topology and agrees on `periodic`.
    bridge
        'torchforce' (openmm-torch), 'python' (openmm.PythonForce), or 'auto': TorchForce where it works.
    device
        Where PythonForce evaluates the model: 'auto', 'cpu', 'cuda' or 'cuda:1'. TorchForce follows OpenMM.
    precision
        'single' or 'double', of the network; positions and sums over atoms are always float64 where OpenMM's are.
    skin
        How far beyond the cutoff the neighbour list reaches [nm or a Quantity].
    max_memory
        Bound on what the evaluation may hold at once, in bytes or as '2 GiB'.
    scale_parameter
        Name of a global Context parameter, 1 by default, that multiplies the energy.
    force_group
        As in `Force.setForceGroup`.

    Returns
    -------
    openmm.Force
        A TorchForce or a PythonForce, named 'AllegroForce'.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"`precision` is {precision!r}; it can be 'single' or 'double'")
    dtype = DTYPES[PRECISIONS[precision]]
    model = load_model(model, dtype) if isinstance(model, str | Path) else _in_precision(model, dtype)
    indices = _check_atoms(atoms, topology)
    type_indices = atom_types(model.config.type_names, topology, indices, types, atomic_numbers)
    periodic = _check_periodic(periodic, topology, system)
    skin_nm = float(skin) if isinstance(skin, float | int) else skin.value_in_unit(unit.nanometer)
    if not skin_nm >= 0:
        raise ValueError(f"`skin` is {skin_nm} nm; it must be zero or more")
    block_edges = None if max_memory is None else max(1, _bytes(max_memory) // edge_memory(model))
    potential = Potential(model, skin_nm * units.NM_TO_ANGSTROM, block_edges)
    module = ForceModule(
        potential,
        torch.tensor(type_indices),
        None if indices is None else torch.tensor(indices),
        periodic,
        scale_parameter is not None,
    )
    if choose_bridge(bridge) == "torchforce":
        if device != "auto":
            raise ValueError(
                f"`device` is {device!r}, but TorchForce evaluates where OpenMM's platform is; leave it 'auto' or "
                "take `bridge='python'`"
            )
        force = torch_force(module, scale_parameter)
    else:
        force = python_force(module, scale_parameter, _device(device))
    force.setForceGroup(force_group)
    force.setName("AllegroForce")
    return force


def _in_precision(model: Allegro, dtype: torch.dtype) -> Allegro:
    """A copy of the model with weights of the given dtype; the user's own is left as it is."""
    copy = Allegro(model.config, dtype)
    copy.load_state_dict(model.state_dict())
    return copy


def _check_atoms(atoms: Sequence[int] | None, topology: app.Topology | None) -> list[int] | None:
    """The subset as a list, every index valid and named once."""
    if atoms is None:
        return None
    indices = [int(index) for index in atoms]
    n_atoms = None if topology is None else topology.getNumAtoms()
    seen: set[int] = set()
    for index in indices:
        if index < 0 or (n_atoms is not None and index >= n_atoms):
            raise ValueError(f"`atoms` has the index {index}, but the topology has atoms 0 to {(n_atoms or 0) - 1}")
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
        types = [app.Element.getByAtomicNumber(int(number)).symbol for number in atomic_numbers]
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


def _symbols(topology: app.Topology, atoms: list[int] | None) -> list[str]:
    """Chemical symbols from a topology."""
    chosen = list(topology.atoms())
    for atom in chosen if atoms is None else [chosen[index] for index in atoms]:
        if atom.element is None:
            raise ValueError(
                f"atom {atom.index} ({atom.name} of {atom.residue.name}) has no element; leave virtual sites out "
                "with `atoms`, or give `types`"
            )
    return [atom.element.symbol for atom in (chosen if atoms is None else [chosen[index] for index in atoms])]


def _check_periodic(periodic: bool | None, topology: app.Topology | None, system: openmm.System | None) -> bool:
    """Whether the force is periodic, with what contradicts itself refused."""
    box = None if topology is None else topology.getPeriodicBoxVectors()
    if periodic is None:
        if topology is None:
            raise ValueError("there is no topology to say whether the system is periodic; give `periodic`")
        periodic = box is not None
    elif periodic and topology is not None and box is None:
        raise ValueError("`periodic` is True, but the topology has no box; call `topology.setPeriodicBoxVectors` first")
    elif not periodic and box is not None:
        warnings.warn("the topology is periodic, but this force is asked not to be: it sees no images", stacklevel=3)
    if system is not None:
        if topology is not None and system.getNumParticles() != topology.getNumAtoms():
            raise ValueError(
                f"the System has {system.getNumParticles()} particles and the topology {topology.getNumAtoms()} atoms"
            )
        if system.getNumForces() > 0 and system.usesPeriodicBoundaryConditions() != periodic:
            other = "periodic" if system.usesPeriodicBoundaryConditions() else "not periodic"
            raise ValueError(
                f"the System's other forces are {other}, but this force has `periodic` = {periodic}; make them agree"
            )
    return periodic


def _device(name: str) -> torch.device:
    """The device asked for, if it is there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if name not in available and not (name == "cuda" and len(available) > 1):
        raise ValueError(f"`device` is {name!r}, but here are only {', '.join(available)}")
    return torch.device(name)


def _bytes(memory: int | str) -> int:
    """Bytes in '2 GiB' and the like."""
    if isinstance(memory, int):
        return memory
    match = re.fullmatch(r"\s*([\d.]+)\s*(KiB|MiB|GiB|TiB)\s*", memory)
    if match is None:
        raise ValueError(f"`max_memory` is {memory!r}; write it as '2 GiB' or as a number of bytes")
    return int(float(match[1]) * MEMORY_UNITS[match[2]])
