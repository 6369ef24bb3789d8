"""What `liquid_water.py` shows: its figures beside experiment, in a picture and in lines for a reader."""

from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from rich.console import Console

from openmm_allegro.analysis.compare import Comparison
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.result import Result


class Experiment(NamedTuple):
    """What is measured of water at 300 K and 1 bar."""

    density_g_per_cm3: float
    """IAPWS-95 (W. Wagner and A. Pruß, J. Phys. Chem. Ref. Data 31, 387, 2002)."""
    viscosity_mpa_s: float
    """IAPWS 2008 (M. L. Huber et al., J. Phys. Chem. Ref. Data 38, 101, 2009)."""
    diffusion_cm2_per_s: float
    """1.635·10⁻⁴ cm²/s (T/215.05 K − 1)^2.063 (M. Holz et al., Phys. Chem. Chem. Phys. 2, 4740, 2000)."""


EXPERIMENT = Experiment(0.9965, 0.854, 2.41e-5)
X_RAY_PEAK = (0.280, 2.57)
"""Of g(r) O–O at 295 K: r [nm] and height (L. B. Skinner et al., J. Chem. Phys. 138, 074506, 2013)."""


def draw_report(path: Path, structure: list[Comparison], motion: Result, density: Result) -> Path:
    """Radial distributions, displacement and density, with what is measured."""
    oxygens, hydrogens, _ = structure

    def oxygens_and_peak(axes: Axes) -> None:
        oxygens.draw(axes)
        axes.plot(*X_RAY_PEAK, "^", color="#1f5fa8", label="X-rays, 295 K")
        axes.legend(frameon=False, fontsize="small")

    def hydrogens_between_molecules(axes: Axes) -> None:
        hydrogens.draw(axes)
        axes.set(xlim=(0.13, 0.6), ylim=(0.0, 2.5))
        axes.get_figure().axes[-1].set_ylim(-0.4, 0.4)  # of the difference, drawn last

    def densities(axes: Axes) -> None:
        density.draw(axes)
        axes.axhline(EXPERIMENT.density_g_per_cm3, color="black", linestyle="--", linewidth=0.8, label="experiment")
        axes.legend(frameon=False, fontsize="small")

    return save_picture(path, [oxygens_and_peak, hydrogens_between_molecules, motion.draw, densities])


def report(console: Console, structure: list[Comparison], motion: Result, density: Result) -> None:
    """The figures for a reader."""
    for each in structure:
        console.print(f"{each.name}: differs by {each.summary()['difference_per_cent']:.1f} % of its area")
    for name, unit in (("first_peak_nm", " nm"), ("first_peak_g", "")):
        peak, measured = structure[0].figures[name], X_RAY_PEAK[name == "first_peak_g"]
        console.print(
            f"O–O {name}: {peak.predicted.value:.4f} ± {peak.predicted.error:.4f}{unit}; frames "
            f"{peak.reference.value:.4f} ± {peak.reference.error:.4f}; X-rays {measured}"
        )
    value, error = motion.figures()["diffusion_infinite_box_cm2_per_s"]
    console.print(f"D(O) = {value:.2e} ± {error:.1e} cm²/s; experiment {EXPERIMENT.diffusion_cm2_per_s:.2e}")
    value, error = density.figures()["density_g_per_cm3"]
    console.print(f"density {value:.3f} ± {error:.3f} g/cm³; experiment {EXPERIMENT.density_g_per_cm3:g}")
