"""Input of a LAMMPS run: the atoms, what is set before the model is attached, and what comes after.

`setup.lammps` reads `atoms.data`; then Python attaches the model; `dynamics.lammps` minimises and says how to
integrate. `run.py` does all three, and the run itself. A run that goes on has a restart file in place of atoms,
minimisation and velocities.
"""

import json
import math
from pathlib import Path

from openmm import unit

from openmm_allegro import units
from openmm_allegro.atom_types import atom_types
from openmm_allegro.checkpoint import write_whole
from openmm_allegro.config import AllegroConfig
from openmm_allegro.lammps.config import LammpsConfig
from openmm_allegro.lammps.data import Atoms, data_file
from openmm_allegro.lammps.force import commands
from openmm_allegro.simulation.resumable import INPUTS, digests
from openmm_allegro.structure import Structure

ATOMS, SETUP, DYNAMICS, SCRIPT = "atoms.data", "setup.lammps", "dynamics.lammps", "run.py"
CONFIG, TYPES = "lammps.toml", "types.json"
"""Options, and the names of the atom types 1, 2, …: what `lammps.run` goes by."""
SEEDS_A_STEP, LARGEST_SEED = 104_729, 800_000_000
"""A prime above the number of ranks, each of which adds its own number; LAMMPS takes seeds up to 900,000,000."""
PRESSURES = ("xx", "yy", "zz", "xy", "xz", "yz")


def write_input(folder: Path, config: LammpsConfig, model: AllegroConfig, structure: Structure) -> None:
    """Write all files into a folder."""
    atoms = typed_atoms(config, model, structure)
    texts = {
        INPUTS: json.dumps(digests(config)),
        TYPES: json.dumps(atoms.types),
        ATOMS: data_file(atoms, structure),
        SETUP: setup(config, model, structure),
        DYNAMICS: dynamics(config, structure),
        SCRIPT: script(config, atoms),
        CONFIG: config.to_toml(),  # last: what has it can be resumed
    }
    for name, text in texts.items():
        write_whole(folder / name, text.encode())


def typed_atoms(config: LammpsConfig, model: AllegroConfig, structure: Structure) -> Atoms:
    """The atoms by type; an element that the model does not know is refused."""
    elements = [atom.element for atom in structure.topology.atoms()]
    indices = atom_types(model.type_names, structure.topology)
    present = sorted(set(indices))
    mass_of = {element.symbol: element.mass.value_in_unit(unit.dalton) for element in elements}
    if config.hydrogen_mass_amu is not None and "H" in mass_of:
        mass_of["H"] = config.hydrogen_mass_amu
    types = [model.type_names[index] for index in present]
    return Atoms(types, [mass_of[name] for name in types], [present.index(index) + 1 for index in indices])


def setup(config: LammpsConfig, model: AllegroConfig, structure: Structure) -> str:
    """`setup.lammps`: all that comes before the model."""
    periodic = structure.topology.getPeriodicBoxVectors() is not None
    lines = [
        "units metal",
        "atom_style atomic",
        f"boundary {'p p p' if periodic else 'm m m'}",
        "newton off  # the model sends forces on ghosts home itself",
        "box tilt large",
        f"read_data {ATOMS}",
        f"timestep {config.timestep_fs / 1000!r}",
        "# the model adds:",
        *(f"#   {line}" for line in commands(model.r_max, config.skin_nm * units.NM_TO_ANGSTROM, True)),
    ]
    return "\n".join(lines) + "\n"


def dynamics(config: LammpsConfig, structure: Structure) -> str:
    """`dynamics.lammps`: all that comes after the model and before `run`."""
    n_atoms = structure.topology.getNumAtoms()
    lines = _thermo(config)
    if config.minimize:
        tolerance = config.minimize_tolerance_kj / units.EV_PER_ANGSTROM_TO_KJ_PER_MOL_NM * math.sqrt(3 * n_atoms)
        iterations = config.minimize_iterations or 10**8
        lines += [
            f"minimize 0 {tolerance!r} {iterations} {10 * iterations}",
            "reset_timestep 0",
        ]
    seed = thermostat_seed(config, 0)  # with 2³¹ - 1 LAMMPS draws for ever
    lines.append(f"velocity all create {config.temperature_k!r} {seed} mom yes rot no dist gaussian")
    lines += _integration(config, 0) + _frames(config, f"trajectory.{config.trajectory_format}", 0)
    return "\n".join(lines) + "\n"


def restored(config: LammpsConfig, checkpoint: str) -> list[str]:
    """What comes before the model in a run that goes on from a restart file."""
    return [
        "newton off",
        "box tilt large",
        f"read_restart {checkpoint}",
        "pair_style none  # the model sets it",
        f"timestep {config.timestep_fs / 1000!r}",
    ]


def continued(config: LammpsConfig, frames: str, step: int) -> list[str]:
    """What comes after it. frames: the file for those after this step."""
    return _thermo(config) + _integration(config, step) + _frames(config, frames, step)


def _thermo(config: LammpsConfig) -> list[str]:
    return [
        f"thermo {config.report_every}",
        "thermo_style custom step time pe ke etotal temp vol press " + " ".join(f"p{ab}" for ab in PRESSURES),
    ]


def _integration(config: LammpsConfig, step: int) -> list[str]:
    """Its fixes, those of the same name and kind as before a restart, which LAMMPS gives their state back.

    Random forces push the whole system: it would drift, and a temperature of 3n - 3 degrees of freedom be too high.
    `fix langevin … zero yes` takes the same force from atoms of all masses, which heats light ones.
    """
    temperature, lines = config.temperature_k, []
    if config.ensemble == "NPT":
        pressure, period = config.pressure_bar, config.barostat_ps
        lines.append(f"fix integrate all nph iso {pressure!r} {pressure!r} {period!r} ptemp {temperature!r}")
    else:
        lines.append("fix integrate all nve")
    if config.ensemble != "NVE":
        lines.append(
            f"fix thermostat all langevin {temperature!r} {temperature!r} {1 / config.friction_per_ps!r} "
            f"{thermostat_seed(config, step)}"
        )
        lines.append("fix at_rest all momentum 1 linear 1 1 1")
    return lines


def thermostat_seed(config: LammpsConfig, step: int) -> int:
    """Another one for each step to go on from: forces that come back would not be random."""
    return (config.seed + SEEDS_A_STEP * step - 1) % LARGEST_SEED + 1


def _frames(config: LammpsConfig, name: str, step: int) -> list[str]:
    every = config.report_every
    return [
        f"dump frames all {config.trajectory_format} {every} {name}",
        f"dump_modify frames unwrap yes delay {(step // every + 1) * every}",
    ]


def script(config: LammpsConfig, atoms: Atoms) -> str:
    """`run.py`: the run without the command line, to be changed at will."""
    return f'''"""Start it in this folder by `mpiexec -n RANKS python {SCRIPT}`."""

from openmm_allegro.lammps.force import attach
from openmm_allegro.lammps.mpi_library import open_lammps

lmp = open_lammps()
lmp.file("{SETUP}")
force = attach(
    lmp,
    {str(config.model)!r},
    {atoms.types!r},
    precision={config.precision!r},
    device={config.device!r},
    skin={config.skin_nm * units.NM_TO_ANGSTROM!r},
)
lmp.file("{DYNAMICS}")
force.check()
force.run({config.n_steps})
lmp.command("write_data final.data")
lmp.close()
'''
