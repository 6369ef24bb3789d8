"""What glasses of two potentials and a crystal look like: figures and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from common_neighbours import KINDS, common_neighbours
from emt import leg_at
from matplotlib.axes import Axes

from openmm_allegro import units
from openmm_allegro.analysis.asked import results_of_runs
from openmm_allegro.analysis.blocks import standard_errors
from openmm_allegro.analysis.catalogue import parse_request
from openmm_allegro.analysis.compare import Comparison, compare
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import element_masses
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.simulation.stages import temperature_at

PAIRS = parse_request("rdf:r_max_nm=0.56")
ALL = parse_request("rdf:pair=all-all:r_max_nm=0.56")
BOND_ANGSTROM = 3.4  # between the first and the second shell, of glass and crystal
SECOND_SHELL_NM = (0.34, 0.44)  # where a face-centred cubic crystal has one and a glass has a gap
DENSITY, ENERGY, AT_SECOND_SHELL = "density, g/cm³", "energy of an atom, eV", "g at the crystal's second shell"
COLOURS = {"crystal": "0.6", "EMT": "black", "Allegro": "#d1495b"}


@dataclass(frozen=True)
class Glass:
    """One run, from crystal through melt to glass."""

    time_ps: np.ndarray
    """(lines,)"""
    kelvin: np.ndarray
    """Temperature of the thermostat, (lines,)."""
    cools: np.ndarray
    """Whether it falls, (lines,)."""
    energy: np.ndarray
    """Of an atom [eV], (lines,)."""
    density: np.ndarray
    """[g/cm³], (lines,)."""
    start_ps: float
    """From here on it is looked at as a glass."""
    frames: Frames
    """Of the glass."""
    ns_per_day: float | None

    @classmethod
    def of(
        cls, config: SimulateConfig, course: np.ndarray, frames: Frames, start_ps: float, ns_per_day: float | None
    ) -> "Glass":
        """From time [ps], potential energy [eV] and volume [Å³] during the run, (lines, 3)."""
        mass = float(element_masses(frames.topology).sum())
        steps = np.rint(1000 * course[:, 0] / config.timestep_fs).astype(int) - 1  # the last one before each line
        legs = [leg_at(config.legs, step) for step in steps]
        return cls(
            time_ps=course[:, 0],
            kelvin=np.array([temperature_at(leg, step) for leg, step in zip(legs, steps, strict=True)]),
            cools=np.array([leg.end_k < leg.start_k for leg in legs]),
            energy=course[:, 1] / frames.n_atoms,
            density=units.DALTON_PER_ANGSTROM3_TO_G_PER_CM3 * mass / course[:, 2],
            start_ps=start_ps,
            frames=frames,
            ns_per_day=ns_per_day,
        )

    def figures(self) -> dict[str, float]:
        """Means over the glass."""
        late = self.time_ps >= self.start_ps
        means = {DENSITY: float(self.density[late].mean()), ENERGY: float(self.energy[late].mean())}
        return means | common_neighbours(self.frames, BOND_ANGSTROM)


def measured(emt: Sequence[Glass], allegro: Sequence[Glass], crystal: Frames) -> dict[str, dict[str, Measured]]:
    """By figure and by `crystal`, `EMT` and `Allegro`; errors are those of means over runs."""
    rows: dict[str, dict[str, Measured]] = {name: {} for name in (DENSITY, ENERGY, *KINDS, AT_SECOND_SHELL)}
    for which, glasses in (("EMT", emt), ("Allegro", allegro)):
        every = [glass.figures() for glass in glasses]
        for name in every[0]:
            values = np.array([[figures[name]] for figures in every])
            rows[name][which] = Measured(float(values.mean()), float(standard_errors(values)[0]))
    of_crystal = common_neighbours(crystal, BOND_ANGSTROM)
    for name, value in of_crystal.items():
        rows[name]["crystal"] = Measured(value)
    mass = units.DALTON_PER_NM3_TO_G_PER_CM3 * float(element_masses(crystal.topology).sum())
    volumes = np.linalg.det(crystal.cells_for("a density"))
    rows[DENSITY]["crystal"] = Measured(float((mass / volumes).mean()))

    curves = {"crystal": curve_of([crystal])} | {
        which: curve_of([glass.frames for glass in glasses]) for which, glasses in (("EMT", emt), ("Allegro", allegro))
    }
    r, g = curves["crystal"].x, curves["crystal"].y
    shell = np.flatnonzero((r > SECOND_SHELL_NM[0]) & (r < SECOND_SHELL_NM[1]))
    place = shell[np.argmax(g[shell])]
    rows[AT_SECOND_SHELL] = {which: Measured(curve.y[place], curve.error[place]) for which, curve in curves.items()}
    return rows


def curve_of(runs: Sequence[Frames]) -> Curve:
    """g(r) of all atoms around all."""
    (found,) = results_of_runs([ALL], runs)[ALL.name]
    curve = found.curve()
    assert curve is not None  # every radial distribution has one
    return curve


def compared(emt: Sequence[Glass], allegro: Sequence[Glass]) -> list[Comparison]:
    """Radial distributions of each pair of elements in both glasses."""
    theirs, ours = (results_of_runs([PAIRS], [each.frames for each in glasses])["rdf"] for glasses in (emt, allegro))
    return compare(theirs, ours)


def draw(
    path: Path,
    emt: Sequence[Glass],
    allegro: Sequence[Glass],
    crystal: Frames,
    structure: Sequence[Comparison],
    figures: dict[str, dict[str, Measured]],
) -> Path:
    """Radial distributions by pair and beside the crystal's, the way from melt to glass, common neighbours."""
    glasses = {"EMT": emt, "Allegro": allegro}
    frames = {"crystal": [crystal]} | {which: [each.frames for each in runs] for which, runs in glasses.items()}
    curves = {which: curve_of(runs) for which, runs in frames.items()}
    panels = [
        partial(draw_way, glasses=glasses),
        partial(draw_all, curves=curves),
        partial(draw_kinds, figures=figures),
    ]
    return save_picture(path, [*panels, *(each.draw for each in structure)])


def draw_way(axes: Axes, glasses: dict[str, Sequence[Glass]]) -> None:
    """Energy against the temperature of the thermostat while it falls, a line for each run."""
    for which, runs in glasses.items():
        for number, glass in enumerate(runs):
            label = which if number == 0 else None
            axes.plot(glass.kelvin[glass.cools], glass.energy[glass.cools], color=COLOURS[which], lw=0.9, label=label)
    axes.set(xlabel="temperature of the thermostat / K", ylabel="potential energy of an atom / eV")
    axes.set_title("quench, each run", fontsize="small")
    axes.legend(frameon=False, fontsize="small")


def draw_all(axes: Axes, curves: dict[str, Curve]) -> None:
    """g(r) of all atoms, where a crystal has shells that a glass has not."""
    for which, curve in curves.items():
        axes.plot(curve.x, curve.y, color=COLOURS[which], lw=1.2, label=which)
        axes.fill_between(curve.x, curve.y - curve.error, curve.y + curve.error, color=COLOURS[which], alpha=0.3, lw=0)
    axes.set(xlabel="distance r / nm", ylabel="g(r), all atoms", xlim=(0.2, float(curves["crystal"].x[-1])))
    axes.set_title("glasses and crystal at 300 K", fontsize="small")
    axes.legend(frameon=False, fontsize="small")


def draw_kinds(axes: Axes, figures: dict[str, dict[str, Measured]]) -> None:
    """Shares of bonded pairs with the surroundings of a crystal and of an icosahedron."""
    width = 0.8 / len(COLOURS)
    for number, (which, colour) in enumerate(COLOURS.items()):
        found = [figures[kind][which] for kind in KINDS]
        x = np.arange(len(KINDS)) + (number - 1) * width
        axes.bar(
            x, [each.value for each in found], width, yerr=[each.error for each in found], color=colour, label=which
        )
    axes.set_xticks(range(len(KINDS)), [name.removesuffix(", %") for name in KINDS])
    axes.set(ylabel="share of bonded pairs / %")
    axes.set_title("common neighbours", fontsize="small")
    axes.legend(frameon=False, fontsize="small")
