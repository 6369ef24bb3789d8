"""What two calculators find, as a table, as figures and as a picture."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
from ase.utils.forcecurve import ForceFit
from matplotlib import pyplot as plt
from rich.table import Table


@dataclass(frozen=True)
class Results:
    """Of one calculator, for the crystal at its own lattice constant."""

    lattice_constant: float
    """[Å]."""
    energy: float
    """Of an atom of the crystal [eV]."""
    vacancy_energy: float
    """Of formation, at the crystal's volume [eV]."""
    barrier: float
    """Of the vacancy's hop [eV]."""
    constants: np.ndarray
    """Lattice constants [Å] at which there are `energies`, of an atom [eV]."""
    energies: np.ndarray
    band_path: np.ndarray
    frequencies: np.ndarray
    """(places on the path, 3) [THz]."""
    ticks: list[tuple[float, str]]
    hop: ForceFit
    """Energies [eV] above the start along the hop [Å]."""


def comparison(reference: Results, model: Results) -> tuple[Table, dict[str, dict[str, float]]]:
    """Both beside each other, for a reader and for a program."""
    rows = {
        "lattice constant, Å": (reference.lattice_constant, model.lattice_constant),
        "energy of an atom, eV": (reference.energy, model.energy),
        "vacancy formation, eV": (reference.vacancy_energy, model.vacancy_energy),
        "barrier of the hop, eV": (reference.barrier, model.barrier),
        "highest frequency, THz": (reference.frequencies.max(), model.frequencies.max()),
        "frequencies, RMS difference, THz": (0.0, rms(model.frequencies - reference.frequencies)),
    }
    table = Table("", "EMT", "Allegro")
    for name, values in rows.items():
        table.add_row(name, *(f"{value:.4f}" for value in values))
    return table, {name: {"EMT": float(emt), "Allegro": float(ours)} for name, (emt, ours) in rows.items()}


def rms(values: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def draw(path: Path, results: dict[str, Results]) -> Path:
    """Energy against lattice constant, phonon bands and the hop, every result over the others."""
    figure, (crystal, bands, hop) = plt.subplots(1, 3, figsize=(13, 4), width_ratios=(1, 1.4, 1), layout="constrained")
    styles = {"EMT": {"color": "black", "lw": 1.6}, "Allegro": {"color": "tab:red", "lw": 1.2, "ls": "--"}}
    for name, found in results.items():
        style = styles[name]
        crystal.plot(found.constants, found.energies, label=name, **style)
        crystal.plot(found.lattice_constant, found.energy, marker="o", color=style["color"])
        bands.plot(found.band_path, found.frequencies[:, 0], label=name, **style)
        bands.plot(found.band_path, found.frequencies[:, 1:], **style)
        hop.plot(found.hop.fit_path, found.hop.fit_energies, label=f"{name}: {found.barrier:.3f} eV", **style)
        hop.plot(found.hop.path, found.hop.energies, ls="", marker="o", ms=5, color=style["color"])
    crystal.set(xlabel="lattice constant (Å)", ylabel="energy of an atom (eV)", title="Relaxed with its cell: dots")
    places, names = zip(*results["EMT"].ticks, strict=True)
    bands.set_xticks(places, [{"G": "Γ"}.get(name, name) for name in names])
    bands.set(xlim=(places[0], places[-1]), ylabel="frequency (THz)", title="Phonons")
    bands.set_ylim(bottom=min(0, bands.get_ylim()[0]))
    for place in places[1:-1]:
        bands.axvline(place, color="0.8", lw=0.8, zorder=0)
    hop.set(xlabel="along the path (Å)", ylabel="energy (eV)", title="A vacancy's hop")
    for axes in (crystal, bands, hop):
        axes.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path
