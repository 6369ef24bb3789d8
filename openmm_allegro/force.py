"""AllegroForce: an Allegro model as an OpenMM Force."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import torch  # before openmm, which bridges imports: see there

from openmm_allegro.bridges import choose_bridge, python_force, torch_force, torchforce_has_cuda  # isort: skip
import openmm
from openmm import app, unit

from openmm_allegro import units
from openmm_allegro.atom_types import atom_types, checked_atoms
from openmm_allegro.checkpoint import dtype_of
from openmm_allegro.cores import allowed_cores, limit_threads
from openmm_allegro.device import chosen_devices
from openmm_allegro.ensemble import Ensemble
from openmm_allegro.ensemble_file import dynamics_model
from openmm_allegro.export import ForceModule
from openmm_allegro.kernels import triton_problem
from openmm_allegro.model import Allegro
from openmm_allegro.model_file import loaded
from openmm_allegro.potential import Potential
from openmm_allegro.scripted import ScriptedModel, ScriptedPotential
from openmm_allegro.system_checks import check_system, checked_periodic

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
    device: str | torch.device | Sequence[str] = "auto",
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
        are a GPU and OpenMM's CUDA platform, else PythonForce; the log says why.
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
        A TorchForce or a PythonForce, named 'AllegroForce'. `getPotential().neighbors` of a PythonForce, of the object
        returned here, has `builds` and `updates`: neighbour lists built, and evaluations.
    """
    dtype = dtype_of(precision)
    model = loaded(model, model_units)
    if not isinstance(model, ScriptedModel):
        model = dynamics_model(model, dtype)
    indices = checked_atoms(atoms, topology)
    type_indices = atom_types(model.config.type_names, topology, indices, types, atomic_numbers)
    periodic = checked_periodic(periodic, topology)
    if system is not None:
        check_system(system, topology, periodic)
    skin_nm = float(skin.value_in_unit(unit.nanometer) if isinstance(skin, unit.Quantity) else skin)
    if not 0 <= skin_nm < math.inf:
        raise ValueError(f"`skin` is {skin_nm} nm; it must be zero or more")
    if kernels and (problem := triton_problem()) is not None:
        raise ValueError(f"`kernels` is True, but {problem}")
    if isinstance(model, ScriptedModel):
        _check_scripted(model, precision, max_memory, tabulate, kernels)
        potential: Potential | ScriptedPotential = ScriptedPotential(model, skin_nm * units.NM_TO_ANGSTROM)
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
    force = _across(module, bridge, device, scale_parameter)
    force.setForceGroup(force_group)
    force.setName("AllegroForce")
    return force


def _across(
    module: ForceModule, bridge: str, device: str | torch.device | Sequence[str], scale_parameter: str | None
) -> openmm.Force:
    """The Force that takes a module across to OpenMM."""
    if bridge == "auto" and device != "auto":
        bridge = "python"
    if choose_bridge(bridge, torch.cuda.is_available(), torchforce_has_cuda()) == "torchforce":
        if device != "auto":
            raise ValueError(
                f"`device` is {device!r}, but TorchForce evaluates where OpenMM's platform is; leave it 'auto' or "
                "take `bridge='python'`"
            )
        limit_threads(allowed_cores())
        return torch_force(module, scale_parameter)
    return python_force(module, scale_parameter, chosen_devices(device))


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


def _bytes(memory: int | str) -> int:
    """Bytes in '2 GiB' and the like."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(KiB|MiB|GiB|TiB)\s*", memory) if isinstance(memory, str) else None
    if match is not None:
        return int(float(match[1]) * MEMORY_UNITS[match[2]])
    if isinstance(memory, str) or not 0 < memory < math.inf:
        raise ValueError(f"`max_memory` is {memory!r}; write it as '2 GiB' or as a number of bytes above zero")
    return int(memory)
