"""Other programs that evaluate the same model, to be timed beside this one.

A peer gets the weights through a checkpoint as nequip's training writes it, and runs as its users run it: through
openmm-ml in OpenMM, or compiled by `nequip-compile` in ASE's dynamics.
"""

import importlib.util
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch  # isort: skip  (before openmm: else OpenMM does not find TorchForce's kernels)
import numpy as np
import openmm
from numpy.typing import NDArray
from openmm import unit
from torch import Tensor

from openmm_allegro import units
from openmm_allegro.bench.config import Peer
from openmm_allegro.config import AllegroConfig
from openmm_allegro.model import Allegro
from openmm_allegro.nequip.weights import copy_nequip_weights
from openmm_allegro.structure import Structure
from openmm_allegro.torchscript import script, script_bytes

NEEDED: dict[Peer, tuple[str, ...]] = {
    "openmm-ml": ("openmmml", "nequip", "allegro"),
    "nequip-aoti": ("nequip", "allegro"),
    "nequip-torchscript": ("nequip", "allegro"),
    "nequip": ("nequip", "allegro"),
}
EXAMPLE_ATOMS = 1000
"""Atoms that nequip-compile is shown at most."""


@dataclass(frozen=True)
class Stepper:
    """A simulation that can be stepped and asked for its energy."""

    name: str
    step: Callable[[], None]
    energy_kj: Callable[[], float]
    """Potential energy of the current positions [kJ/mol]."""


@dataclass(frozen=True)
class Start:
    """Where every simulation starts, and how long its steps are."""

    structure: Structure
    velocities: NDArray[np.float64]
    """(atoms, 3) [nm/ps]."""
    timestep_ps: float
    platform: openmm.Platform
    properties: dict[str, str]
    device: torch.device


def openmm_stepper(name: str, system: openmm.System, start: Start) -> Stepper:
    """Dynamics at constant energy in OpenMM."""
    integrator = openmm.VerletIntegrator(start.timestep_ps)
    context = openmm.Context(system, integrator, start.platform, start.properties)
    context.setPositions(start.structure.positions_nm)
    context.setVelocities(start.velocities)

    def energy_kj() -> float:
        return context.getState(energy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)

    return Stepper(name, lambda: context.getIntegrator().step(1), energy_kj)


def check_installed(peer: Peer) -> None:
    """Refuse a peer whose packages are not here."""
    for package in NEEDED[peer]:
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f'`peer` is {peer}, but `{package}` is not installed; `pip install "openmm-allegro[bench]"`'
            )


def make_peer(peer: Peer, model: Allegro, start: Start, folder: Path) -> Stepper:
    """A peer with the weights of `model`, ready to step; its files go into `folder`."""
    with _as_nequip_runs():
        checkpoint = folder / "model.ckpt"
        write_nequip_checkpoint(model, checkpoint)
        is_openmm = peer == "openmm-ml"
        stepper = _openmm_ml(checkpoint, start) if is_openmm else _nequip_ase(peer, checkpoint, model, start)
    return Stepper(peer, _as_nequip_runs()(stepper.step), _as_nequip_runs()(stepper.energy_kj))


@contextmanager
def _as_nequip_runs() -> Iterator[None]:
    """The process as nequip changes it, and as it was afterwards; what peers warn of is not for our users."""
    dtype = torch.get_default_dtype()
    fusion = torch.jit.set_fusion_strategy([("DYNAMIC", 10)])  # as set_global_state does, at its first call only
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nequip.utils.global_state import set_global_state

        set_global_state()
        torch.set_default_dtype(torch.float64)  # likewise
        try:
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.jit.set_fusion_strategy(fusion)


def _openmm_ml(checkpoint: Path, start: Start) -> Stepper:
    """The `nequip` potential of openmm-ml."""
    from openmmml import MLPotential

    potential = MLPotential(
        "nequip", modelPath=str(checkpoint), lengthScale=units.ANGSTROM_TO_NM, energyScale=units.EV_TO_KJ_PER_MOL
    )
    system = potential.createSystem(start.structure.topology, device=start.device, removeCMMotion=False)
    return openmm_stepper("openmm-ml", system, start)


def _nequip_ase(peer: Peer, checkpoint: Path, model: Allegro, start: Start) -> Stepper:
    """Nequip's ASE calculator of the compiled model, in ASE's velocity Verlet."""
    import ase
    import ase.units
    from ase.md.verlet import VelocityVerlet
    from nequip.integrations.ase import NequIPCalculator

    topology = start.structure.topology
    box = topology.getPeriodicBoxVectors()
    cell = None if box is None else np.array([list(v.value_in_unit(unit.angstrom)) for v in box])
    symbols = [atom.element.symbol for atom in topology.atoms()]
    positions = start.structure.positions_nm * units.NM_TO_ANGSTROM
    atoms = ase.Atoms(symbols, positions, cell=cell, pbc=box is not None)
    device = start.device if start.device.index else torch.device(start.device.type)  # to nequip cuda is not cuda:0
    compiled = _compiled(peer, checkpoint, atoms[:EXAMPLE_ATOMS], model, device)
    atoms.calc = NequIPCalculator.from_compiled_model(compiled, device=device, chemical_species_to_atom_type_map=True)
    atoms.set_velocities(start.velocities * units.NM_TO_ANGSTROM / (1000 * ase.units.fs))
    dynamics = VelocityVerlet(atoms, timestep=1000 * start.timestep_ps * ase.units.fs)

    def energy_kj() -> float:
        return float(atoms.get_potential_energy()) * units.EV_TO_KJ_PER_MOL

    return Stepper(peer, lambda: dynamics.run(1), energy_kj)


def _compiled(peer: Peer, checkpoint: Path, example: object, model: Allegro, device: torch.device) -> Path:
    """What `nequip-compile` makes of the checkpoint. example: `ase.Atoms` whose size it may adapt to."""
    mode, suffix = ("aotinductor", "pt2") if peer == "nequip-aoti" else ("torchscript", "pth")
    data, compiled = checkpoint.with_name("example.pt"), checkpoint.with_name(f"model.nequip.{suffix}")
    _write_example(example, model.config, data)
    words = [str(checkpoint), str(compiled), "--mode", mode, "--device", str(device), "--target", "ase"]
    done = subprocess.run(
        [sys.executable, "-m", "nequip.scripts.compile", *words, "--data-path", str(data)],
        cwd=checkpoint.parent,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 or not compiled.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        needs = "; it needs a C++ compiler such as g++" if peer == "nequip-aoti" else ""
        raise ValueError(f"`peer` is {peer}, but nequip-compile could not compile the model ({last}){needs}")
    return compiled


def _write_example(example: object, config: AllegroConfig, path: Path) -> None:
    """A frame with its neighbours, as `nequip-compile --data-path` wants it: the buffers of a TorchScript module."""
    from nequip.data import AtomicDataDict, compute_neighborlist_, from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper

    data = ChemicalSpeciesToAtomTypeMapper(list(config.type_names))(from_ase(example))
    data = compute_neighborlist_(data, r_max=config.r_max)
    names = ("POSITIONS", "EDGE_INDEX", "ATOM_TYPE", "CELL", "EDGE_CELL_SHIFT")
    holder = torch.nn.Module()
    for name in (getattr(AtomicDataDict, f"{name}_KEY") for name in names):
        holder.register_buffer(name, data[name])
    path.write_bytes(script_bytes(script(holder)))


def write_nequip_checkpoint(model: Allegro, path: Path) -> None:
    """The model with its weights as a checkpoint of nequip's training, which nequip and openmm-ml load."""
    import lightning
    from nequip.train import NequIPLightningModule

    options = {
        "model": nequip_options(model.config, model.dtype),
        "num_datasets": {"train": 1, "val": 1, "test": 0, "predict": 0},
        "info_dict": {
            "versions": {},
            "data": {},
            "training_module": {"_target_": "nequip.train.NequIPLightningModule"},
        },
    }
    module = NequIPLightningModule(**options)
    give_weights(model, module.model["sole_model"])
    content = {
        "state_dict": module.state_dict(),
        "hyper_parameters": options,
        "hparams_name": "kwargs",
        "pytorch-lightning_version": lightning.__version__,
    }
    torch.save(content, path)


def nequip_options(config: AllegroConfig, dtype: torch.dtype) -> dict[str, object]:
    """The same hyperparameters as nequip's builder of Allegro models takes them."""
    options = config.model_dump(mode="json")
    for name in ("per_edge_type_cutoff", "per_type_energy_scales", "per_type_energy_shifts"):
        if options[name] is None:
            del options[name]
    embed = options.pop("radial_chemical_embed")
    spline = {name: options.pop(name) for name in ("num_splines", "spline_span")}
    bessel = {name: options.pop(name) for name in ("num_bessels", "bessel_trainable", "polynomial_cutoff_p")}
    embeds: dict[str, tuple[str, dict[str, object]]] = {
        "bessel": ("TwoBodyBesselScalarEmbed", bessel),
        "spline": ("TwoBodySplineScalarEmbed", spline),
    }
    target, own = embeds[embed]
    options["radial_chemical_embed"] = {"_target_": f"allegro.nn.{target}", **own}
    zbl, power = options.pop("zbl"), options.pop("zbl_polynomial_cutoff_p")
    if zbl:
        options["pair_potential"] = {
            "_target_": "nequip.nn.pair_potential.ZBL",
            "units": "metal",
            "chemical_species": list(config.type_names),
            "polynomial_cutoff_p": power,
        }
    for name in ("scalar_embed", "allegro", "readout"):
        if options[f"{name}_mlp_nonlinearity"] == "none":
            options[f"{name}_mlp_nonlinearity"] = None
    model_dtype = str(dtype).removeprefix("torch.")
    return {"_target_": "allegro.model.AllegroModel", "seed": 1, "model_dtype": model_dtype, **options}


def give_weights(model: Allegro, network: torch.nn.Module) -> None:
    """Give nequip's network the weights of `model`, which has the same hyperparameters.

    Where each weight goes is learnt from the way back: the network's weights are numbered, and the numbers copied.
    """
    named = dict(network.named_parameters()) | dict(network.named_buffers())
    tensors = [tensor.data for tensor in named.values() if tensor.is_floating_point() and tensor.numel() > 0]
    values = torch.cat([tensor.flatten().to(torch.float64) for tensor in tensors])
    numbers = torch.arange(len(values), dtype=torch.float64)
    if len(values) > 2**24:
        raise ValueError(f"a model with {len(values)} weights is too large to be compared; the limit is {2**24}")
    numbered = Allegro(model.config, torch.float64)
    for parameter in numbered.parameters():
        parameter.data.fill_(-1.0)  # stays where nequip has no such weight
    _fill(tensors, numbers)
    copy_nequip_weights(network, numbered)
    for place, weight in zip(numbered.parameters(), model.parameters(), strict=True):
        is_there = place.data.flatten() >= 0
        values[place.data.flatten()[is_there].long()] = weight.data.flatten()[is_there].to(values)
    _fill(tensors, values)


def _fill(tensors: list[Tensor], values: Tensor) -> None:
    """Put consecutive values (all,) into tensors."""
    for tensor, part in zip(tensors, values.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.reshape(tensor.shape))
