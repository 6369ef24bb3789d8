"""Vibrational density of states from stored positions.

Symbols used in this file
    f  frames     k  paths     w  wave numbers     m  blocks of frames
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mdtraj
import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

from openmm_allegro import units
from openmm_allegro.analysis.blocks import block_slices, standard_errors
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.paths import collect_paths
from openmm_allegro.analysis.result import Curve, Measured
from openmm_allegro.analysis.selection import atoms_of, element_masses, plain
from openmm_allegro.analysis.tables import write_table
from openmm_allegro.analysis.velocities import NOISE_SHARE, ROUNDED_NM, rounding_variance_nm2, warn_of_barostat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

LIGHT_CM_PER_PS = 0.0299792458
HYDROGEN_PER_CM = 4000.0
FOLDED_SHARE = 0.01
"""Share of the kinetic energy in the last tenth of the spectrum from which on it is said to be folded."""


@dataclass(frozen=True)
class VibrationalDensity:
    """Kinetic energy by wave number."""

    element: str
    """Element or selection."""
    wave_number_per_cm: Array
    """Up to that of a period of two frames, (w,)."""
    density_cm: Array
    """Its integral is 1, (w,)."""
    density_error_cm: Array
    """From blocks of frames, (w,)."""
    temperature_k: Measured
    """Of the whole spectrum, 2/3 of the kinetic energy of an atom; below that of the run, motion has been missed, or
    atoms were heavier there than their element."""

    @property
    def name(self) -> str:
        return f"vibrations_{plain(self.element)}"

    def write_csv(self, path: str | Path) -> Path:
        columns = {
            "wave_number_per_cm": self.wave_number_per_cm,
            "density_cm": self.density_cm,
            "density_error_cm": self.density_error_cm,
        }
        return write_table(path, columns)

    def draw(self, axes: "Axes", label: str | None = None) -> None:
        x, y, error = self.wave_number_per_cm, 1e3 * self.density_cm, 1e3 * self.density_error_cm
        (line,) = axes.plot(x, y, linewidth=1.0, label=self.element if label is None else label)
        axes.fill_between(x, y - error, y + error, color=line.get_color(), alpha=0.3, linewidth=0)
        above = np.flatnonzero(y > 0.005 * y.max())[-1]
        axes.set_xlim(0.0, max(axes.get_xlim()[1] if axes.lines[:-1] else 0.0, float(min(1.2 * x[above], x[-1]))))
        axes.set(xlabel="wave number / cm⁻¹", ylabel="density of states / (10⁻³ cm)")
        axes.set_ylim(bottom=0.0)
        axes.legend(frameon=False, fontsize="small")

    def figures(self) -> dict[str, Measured]:
        mean = float(np.trapezoid(self.density_cm * self.wave_number_per_cm, self.wave_number_per_cm))
        return {"mean_wave_number_per_cm": Measured(mean), "temperature_k": self.temperature_k}

    def curve(self) -> Curve:
        return Curve(
            self.wave_number_per_cm, self.density_cm, self.density_error_cm, "wave number / cm⁻¹", "density / cm"
        )


def vibrational_density(
    frames: Frames | mdtraj.Trajectory,
    element: str,
    *,
    resolution_per_cm: float = 20.0,
    n_blocks: int = 5,
    relative_to: str = "all",
) -> VibrationalDensity:
    """Vibrational density of states of an element or selection: mass-weighted power spectrum of its velocities.

    By Welch's method with Hann windows (`scipy.signal.welch`), `resolution_per_cm` apart. A velocity is the step
    between two frames over its time, which weakens a wave of frequency ν by sin(πνΔ)/(πνΔ); the spectrum is divided by
    the square of this, at most 2.5 for the fastest wave that frames Δ apart can show, 1/2Δ. Faster motion appears
    folded to slower, and no correction can tell: a warning says so where the spectrum has not died out at its end, and
    where it ends below the stretching of bonds to hydrogen. Rounded positions, as in XTC files, and a barostat add
    noise, the more the more often frames are written and most of it at high wave numbers; a warning says how much.
    The temperature is with the masses of the elements: that of hydrogen which was heavier in the run
    (`hydrogen_mass_amu`) is lower in the ratio of both.
    Errors are from `n_blocks` blocks of frames.
    """
    frames = Frames.of(frames)
    spacing = frames.spacing_ps()
    if resolution_per_cm <= 0:
        raise ValueError(f"`resolution_per_cm` is {resolution_per_cm}; it must be positive")
    slices = block_slices(frames.n_frames - 1, n_blocks, "steps between frames")
    length = round(1 / (LIGHT_CM_PER_PS * resolution_per_cm * spacing))
    if not 8 <= length <= slices[0].stop - slices[0].start:
        raise ValueError(
            f"`resolution_per_cm` of {resolution_per_cm:g} takes {length} frames, but it must be at least 8 and at "
            f"most a block of {slices[0].stop - slices[0].start}; choose another, fewer `n_blocks` or more frames"
        )
    masses = element_masses(frames.topology)[atoms_of(frames.topology, element)]
    (paths,) = collect_paths(frames, [element], relative_to=relative_to)
    spectra: Array = np.zeros((n_blocks, length // 2 + 1))
    first = 0
    for moved in paths.blocks():
        velocities = np.diff(moved, axis=0) / spacing
        mass = masses[first : first + moved.shape[1], None]
        first += moved.shape[1]
        for block, part in enumerate(slices):
            frequency, power = welch(velocities[part], 1 / spacing, "hann", length, detrend=False, axis=0)
            spectra[block] += (mass * power).sum(axis=(1, 2))
    if not spectra.any():
        raise ValueError(f"{element} does not move, so that there is no spectrum; choose another element")
    spectra[:, [0, -1] if length % 2 == 0 else [0]] *= 2  # where `welch` has not added −ν, as it is ν itself
    spectra /= np.sinc(frequency * spacing) ** 2
    wave_number = frequency / LIGHT_CM_PER_PS
    energies = np.trapezoid(spectra, frequency, axis=1) / paths.n_paths  # m v² [g/mol nm²/ps²] = [kJ/mol]
    temperatures = energies / 3 / units.BOLTZMANN_KJ_PER_MOL_K
    noise = np.pi**2 / 3 * rounding_variance_nm2(frames, element) / spacing**2  # ⟨v²⟩ of an axis, after the correction
    noise_k = float(masses.mean()) * noise / units.BOLTZMANN_KJ_PER_MOL_K
    _warn_of_rounding(noise_k, float(temperatures.mean()), spacing)
    scaled = warn_of_barostat(frames, float(energies.mean() / masses.mean()))
    noise_at_end = 0.27 * noise_k / float(temperatures.mean()) + 0.16 * scaled  # of ν², and of (πνΔ)²/sin²(πνΔ)
    _warn_of_folding(spectra.mean(axis=0), spacing, bool((masses < 3).any()), noise_at_end)
    density = spectra / np.trapezoid(spectra, wave_number, axis=1).mean()
    return VibrationalDensity(
        element=element,
        wave_number_per_cm=wave_number,
        density_cm=density.mean(axis=0),
        density_error_cm=standard_errors(density),
        temperature_k=Measured(float(temperatures.mean()), float(standard_errors(temperatures))),
    )


def _warn_of_rounding(noise_k: float, temperature_k: float, spacing_ps: float) -> None:
    if noise_k > NOISE_SHARE * temperature_k:
        warnings.warn(
            f"the positions are rounded to {ROUNDED_NM:g} nm, as in XTC files, which in frames {spacing_ps:g} ps apart "
            f"adds about {noise_k:.0f} K to the spectrum, most of it at high wave numbers, where the whole has "
            f"{temperature_k:.0f} K; write a DCD file",
            stacklevel=3,
        )


def _warn_of_folding(spectrum: Array, spacing_ps: float, with_hydrogen: bool, noise_at_end: float) -> None:
    """noise_at_end: share of the whole that noise has in the last tenth, known to a factor of two."""
    highest = 0.5 / spacing_ps / LIGHT_CM_PER_PS
    if with_hydrogen and highest < HYDROGEN_PER_CM:
        warnings.warn(
            f"frames {spacing_ps:g} ps apart show waves up to {highest:.0f} cm⁻¹; bonds to hydrogen that are free to "
            f"stretch, up to {HYDROGEN_PER_CM:.0f} cm⁻¹, are folded into the spectrum, write frames more often",
            stacklevel=3,
        )
        return
    share = float(spectrum[-max(1, len(spectrum) // 10) :].sum() / spectrum.sum())
    if share > FOLDED_SHARE + 2 * noise_at_end:
        warnings.warn(
            f"the last tenth of the spectrum has {100 * share:.0f} % of the kinetic energy, so that faster motion is "
            f"probably folded into it; frames {spacing_ps:g} ps apart show waves up to "
            f"{highest:.0f} cm⁻¹, write frames more often",
            stacklevel=3,
        )
