"""What the quickstart says in the end: the model's liquid beside the ab initio one, as a table and a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter
from rich.table import Table

from openmm_allegro.analysis.energy import EnergyDrift, energy_drift, read_log
from openmm_allegro.analysis.msd import MeanSquaredDisplacement, mean_squared_displacement
from openmm_allegro.analysis.pictures import save_picture
from openmm_allegro.analysis.rdf import RadialDistribution, mean_absolute_difference, radial_distribution
from openmm_allegro.analysis.trajectory_file import open_trajectory
from openmm_allegro.simulation.run import SimulateResult
from openmm_allegro.training.frames import Frame
from openmm_allegro.training.metrics import FramePrediction
from openmm_allegro.units import EV_TO_MEV

PAIRS = (("O", "O"), ("O", "H"))
R_MAX_NM = 0.49  # half the edge of the reference box
BETWEEN_MOLECULES_NM = 0.13  # the O–H bond is shorter
EQUILIBRATION_PS = 0.5  # from the reference's liquid to the model's own
MODEL, REFERENCE, GREY = "#1f5fa8", "#d9822b", "#9aa5b1"


@dataclass(frozen=True)
class Comparison:
    """The model's liquid and the ab initio one."""

    rdf: list[tuple[RadialDistribution, RadialDistribution]]
    """Model and reference, for each of PAIRS."""
    msd: tuple[MeanSquaredDisplacement, MeanSquaredDisplacement]
    """Of oxygen, model and reference."""
    drift: EnergyDrift
    """Without thermostat."""
    temperature_k: float
    """Mean, with a thermostat."""

    def table(self) -> Table:
        """The figures for a reader."""
        table = Table("quantity", "model", "ab initio", "unit")
        for model, reference in self.rdf:
            name = "–".join(model.pair)
            peaks = [f"{each.highest_peak_nm():.4f}" for each in (model, reference)]
            table.add_row(f"g(r) {name}, highest peak", *peaks, "nm")
            table.add_row(f"g(r) {name}, mean difference", f"{mean_absolute_difference(model, reference):.3f}")
        diffusion = [f"{each.diffusion_cm2_per_s:.1e} ± {each.diffusion_error_cm2_per_s:.0e}" for each in self.msd]
        table.add_row("diffusion of O", *diffusion, "cm²/s")
        table.add_row("temperature", f"{self.temperature_k:.1f}", "350 (set)", "K")
        drift, error = self.drift.drift_mev_per_atom_per_ns / 1000, self.drift.drift_error_mev_per_atom_per_ns / 1000
        table.add_row("energy drift (NVE)", f"{drift:.2g} ± {error:.1g}", "", "meV/atom/ps")
        return table


def compare(hot: SimulateResult, free: SimulateResult, data: Path) -> Comparison:
    """Structure and diffusion of the run with a thermostat, energy of the one without, beside the reference."""
    start_ps = min(EQUILIBRATION_PS, hot.time_ps / 4)
    log = read_log(hot.log, ("Time (ps)", "Temperature (K)"))
    model = open_trajectory(hot.trajectory, hot.final_structure, start_ps=start_ps)
    reference = open_trajectory(data / "reference.xtc", data / "reference.pdb")
    return Comparison(
        rdf=[
            (
                radial_distribution(model, pair, r_max_nm=R_MAX_NM),
                radial_distribution(reference, pair, r_max_nm=R_MAX_NM),
            )
            for pair in PAIRS
        ],
        msd=(mean_squared_displacement(model, "O", n_blocks=3), mean_squared_displacement(reference, "O", n_blocks=3)),
        drift=energy_drift(free.log, free.n_atoms),
        temperature_k=float(log["Temperature (K)"][log["Time (ps)"] >= start_ps].mean()),
    )


def draw_report(
    path: Path,
    comparison: Comparison,
    frames: Sequence[Frame],
    predictions: Sequence[FramePrediction],
    history: Path | None,
) -> Path:
    """All of it on one page. history: CSV file of the training, where there was one."""
    panels = [
        lambda axes: draw_learning(axes, history),
        lambda axes: draw_forces(axes, frames, predictions),
        lambda axes: draw_energy(axes, comparison),
        *(lambda axes, both=both: draw_rdf(axes, *both) for both in comparison.rdf),
        lambda axes: draw_msd(axes, *comparison.msd),
    ]
    return save_picture(path, panels)


def draw_learning(axes: Axes, history: Path | None) -> None:
    """Force error over the training."""
    axes.set_title("training", loc="left")
    if history is None:
        axes.text(0.5, 0.5, "the model was given", transform=axes.transAxes, ha="center", color=GREY)
        axes.set_axis_off()
        return
    rows = np.genfromtxt(history, delimiter=",", names=True, ndmin=1)
    axes.plot(rows["step"], rows["train_forces_mae_mev_per_angstrom"], color=GREY, label="training frames")
    axes.plot(rows["step"], rows["validation_forces_mae_mev_per_angstrom"], color=MODEL, label="frames held back")
    axes.set(xlabel="step", ylabel="mean force error / (meV/Å)", yscale="log")
    for which in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        which(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.legend(frameon=False)


def draw_forces(axes: Axes, frames: Sequence[Frame], predictions: Sequence[FramePrediction]) -> None:
    """Every force component of the test frames, predicted against ab initio."""
    reference = np.concatenate([frame.forces.ravel() for frame in frames if frame.forces is not None])
    predicted = np.concatenate([prediction.forces.ravel() for prediction in predictions])
    limit = 1.05 * float(np.abs([reference, predicted]).max())
    axes.plot([-limit, limit], [-limit, limit], color=GREY, linewidth=1)
    axes.plot(reference, predicted, ".", color=MODEL, markersize=3, markeredgewidth=0, alpha=0.3, rasterized=True)
    error = EV_TO_MEV * np.abs(predicted - reference).mean()
    axes.text(0.05, 0.92, f"mean error {error:.0f} meV/Å", transform=axes.transAxes)
    axes.set_title("forces on frames never seen", loc="left")
    axes.set(xlabel="ab initio force / (eV/Å)", ylabel="predicted force / (eV/Å)", xlim=(-limit, limit))
    axes.set(ylim=(-limit, limit), aspect="equal")


def draw_energy(axes: Axes, comparison: Comparison) -> None:
    """Total energy without the thermostat, over time."""
    comparison.drift.draw(axes)
    axes.set_title("energy without thermostat", loc="left")


def draw_rdf(axes: Axes, model: RadialDistribution, reference: RadialDistribution) -> None:
    """Both distributions of one pair, between molecules."""
    axes.set_prop_cycle(color=[REFERENCE, MODEL])
    reference.draw(axes, "ab initio")
    model.draw(axes, "model")
    between = model.r_nm > BETWEEN_MOLECULES_NM
    highest = max(model.g[between].max(), reference.g[between].max())
    axes.set(xlim=(BETWEEN_MOLECULES_NM, R_MAX_NM), ylim=(0, 1.15 * highest))
    axes.set_title(f"structure, {'–'.join(model.pair)}", loc="left")


def draw_msd(axes: Axes, model: MeanSquaredDisplacement, reference: MeanSquaredDisplacement) -> None:
    """Both mean-squared displacements."""
    for each, label, colour in ((reference, "ab initio", REFERENCE), (model, "model", MODEL)):
        low, high = each.msd_nm2 - each.msd_error_nm2, each.msd_nm2 + each.msd_error_nm2
        axes.plot(each.lag_ps, each.msd_nm2, color=colour, label=label)
        axes.fill_between(each.lag_ps, low, high, color=colour, alpha=0.3, linewidth=0)
    axes.set_title("motion of O", loc="left")
    axes.set(xlabel="time between frames / ps", ylabel="mean-squared displacement / nm²", xlim=0, ylim=0)
    axes.legend(frameon=False)
