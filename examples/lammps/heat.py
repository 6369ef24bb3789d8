"""A LAMMPS script of your own with a model in it: water is heated, and its temperature and pressure printed.

    openmm-allegro lammps --model water.safetensors --structure water.pdb --steps 1 --dry-run --output box
    mpiexec -n 2 python heat.py box water.safetensors H O

Everything LAMMPS has may stand in `heat.lammps`: other fixes, computes, thermostats and dumps.
"""

import os
import sys
from pathlib import Path

from openmm_allegro.lammps.force import attach
from openmm_allegro.lammps.mpi_library import open_lammps


def main(box: str, model: str, *types: str) -> None:
    """Run `heat.lammps` on the atoms of a dry run in the folder `box`. types: names of its atom types 1, 2, …"""
    commands = Path(__file__).with_name("heat.lammps").read_text().splitlines()
    model_file = Path(model).resolve()
    os.chdir(box)
    lmp = open_lammps(["-log", "heat.log", "-screen", "none"])
    lmp.file("setup.lammps")
    force = attach(lmp, model_file, types)
    lmp.commands_list(commands)
    for _ in range(5):
        force.run(10)
        step, kelvin, bar = lmp.extract_global("ntimestep"), lmp.get_thermo("temp"), lmp.get_thermo("press")
        if lmp.extract_setting("world_rank") == 0:
            print(f"step {step}: {kelvin:.0f} K, {bar:.0f} bar")
    lmp.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
