"""What the tests of `lammps.force` do on each rank: `mpiexec -n RANKS python lammps_ranks.py ANSWER`.

Writes energies, forces, virial and pressures of some systems, a trajectory's end and errors, for the tests to compare.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from conftest import random_atoms, small_model

from openmm_allegro.lammps.force import attach
from openmm_allegro.lammps.mpi_library import open_lammps

SYSTEMS = {"liquid": (40, 9.0), "small cell": (3, 3.0)}
MASSES = (1.0, 16.0)
TIMESTEP_PS, STEPS, SKIN = 0.0005, 60, 0.3


def system(name):
    """Positions (n, 3) [Å], cell (3, 3) turned as LAMMPS wants it: lower triangular, and types (n,)."""
    positions, cell, types = random_atoms(*SYSTEMS[name])
    q, r = np.linalg.qr(cell.numpy().T)
    signs = np.sign(np.diag(r))
    return positions.numpy() @ (q * signs), (r * signs[:, None]).T, types


def first_velocities(n_atoms):
    """(n, 3) [Å/ps], fast enough for atoms to change ranks."""
    return 40 * np.random.default_rng(4).standard_normal((n_atoms, 3))


def opened(positions, cell, types):
    """A LAMMPS with these atoms."""
    low = [repr(float(cell[i, j])) for i, j in ((0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (2, 1))]
    lmp = open_lammps()
    lmp.commands_list(
        [
            "units metal",
            "atom_style atomic",
            "atom_modify map yes",  # for scatter_atoms
            "newton off",
            "box tilt large",
            f"region all prism 0 {low[0]} 0 {low[1]} 0 {low[2]} {' '.join(low[3:])}",
            "create_box 2 all",
            *(f"mass {i} {mass}" for i, mass in enumerate(MASSES, 1)),
            "compute energies all pe/atom",
            "compute sum all reduce sum c_energies",
            "compute stresses all stress/atom NULL virial",
            "compute stress all reduce sum c_stresses[1]",
            "thermo_style custom step pe ke pxx pyy pzz pxy pxz pyz vol c_sum c_stress",
        ]
    )
    n_atoms = len(types)
    ids = list(range(1, n_atoms + 1))
    lmp.create_atoms(n_atoms, ids, (types.numpy() + 1).tolist(), np.ravel(positions).tolist())
    return lmp


def static(name, precision):
    """Energy [eV], forces [eV/Å], virial [eV] and pressures [bar] of a system where it is."""
    lmp = opened(*system(name))
    force = attach(lmp, small_model(torch.float64), ["H", "O"], precision=precision, device="cpu")
    force.run(0)
    answer = {
        "energy": force.energy,
        "lammps energy": lmp.get_thermo("pe"),
        "sum of atoms": lmp.extract_compute("sum", 0, 0),
        "stress of atoms": lmp.extract_compute("stress", 0, 0),
        "forces": list(lmp.gather_atoms("f", 1, 3)),
        "virial": force.virial.tolist(),
        "pressures": [lmp.get_thermo(name) for name in ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")],
        "volume": lmp.get_thermo("vol"),
        "bytes": force.bytes_sent,
    }
    lmp.close()
    return answer


def moved():
    """Where atoms are after some steps without thermostat, and how many times neighbours were searched."""
    positions, cell, types = system("liquid")
    lmp = opened(positions, cell, types)
    force = attach(lmp, small_model(torch.float64), ["H", "O"], precision="double", device="cpu", skin=SKIN)
    lmp.scatter_atoms("v", 1, 3, np.ctypeslib.as_ctypes(first_velocities(len(types)).ravel()))
    owners = [set(lmp.numpy.extract_atom("id")[: lmp.extract_setting("nlocal")])]
    lmp.commands_list([f"timestep {TIMESTEP_PS}", "fix integrate all nve"])
    force.run(STEPS)
    owners.append(set(lmp.numpy.extract_atom("id")[: lmp.extract_setting("nlocal")]))
    images = np.array(lmp.gather_atoms("image", 0, 3)).reshape(-1, 3)
    places = np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3) + images @ cell
    answer = {
        "positions": places.tolist(),
        "builds": force.potential.neighbors.builds,
        "changed rank": len(owners[0] ^ owners[1]),
        "total energy": lmp.get_thermo("pe") + lmp.get_thermo("ke"),
    }
    lmp.close()
    return answer


def error_of(positions, cell, types, names=("H", "O"), **options):
    """The sentence with which a run ends."""
    lmp = opened(positions, cell, types)
    try:
        force = attach(lmp, small_model(torch.float64), names, device="cpu", **options)
        lmp.command("fix integrate all nve")
        force.run(3)
    except ValueError as error:
        return str(error)
    finally:
        lmp.close()
    raise AssertionError("no error")


def main():
    """Everything, with the answers of the first rank written and the errors of all."""
    torch.set_num_threads(1)
    answer = {name: {each: static(name, each) for each in ("double", "single")} for name in SYSTEMS}
    answer["moved"] = moved()
    positions, cell, types = system("liquid")
    on_one_spot = positions.copy()
    on_one_spot[7] = on_one_spot[6]
    lmp = opened(positions, cell, types)
    communicator = lmp.get_mpi_comm()
    errors = {
        "on one spot": error_of(on_one_spot, cell, types),
        "unknown": error_of(positions, cell, types, ("H", "Na")),
        "too few": error_of(positions, cell, types, ("H",)),
        "skin": error_of(positions, cell, types, skin=-1.0),
    }
    lmp.close()
    answer["errors"] = communicator.allgather(errors)
    if communicator.Get_rank() == 0:
        Path(sys.argv[1]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
