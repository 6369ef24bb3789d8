"""How well an ensemble's spread foretells its errors, and the factors that make it a standard deviation.

Symbols used in this file
    f  frames        n  atoms of all frames
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.special import erfinv
from scipy.stats import spearmanr

from openmm_allegro.ensemble import Ensemble, Factors
from openmm_allegro.spread import Members, Spread
from openmm_allegro.training.frames import Array, Frame, check_elements
from openmm_allegro.units import EV_TO_MEV

CONFIDENCE = np.arange(1, 20) / 20
"""Probabilities at which the coverage of the intervals is looked at."""
SMALLEST_SPREAD = 1e-3
"""As a share of the root mean square spread: what lies below tells nothing of a factor."""


class Comparison(NamedTuple):
    """Errors and spreads of the same quantities."""

    energy_errors: Array
    """Of each frame that has an energy, (f,) [eV]."""
    energy_spreads: Array
    """(f,) [eV]."""
    energy_atoms: Array
    """Atoms of those frames, (f,)."""
    force_errors: Array
    """Of each atom that has a force, (n, 3) [eV/Å]."""
    force_spreads: Array
    """(n,) [eV/Å]."""


@dataclass(frozen=True)
class UncertaintyTable:
    """What spreads are worth: a spread equals the root mean square error where it is right.

    Of the energies per atom, and of components of the forces. None where frames lack the label.
    """

    n_members: int
    n_frames: int
    """Of two or more atoms; others do not count here."""
    is_calibrated: bool
    energy_per_atom_rmse_mev: float | None
    energy_per_atom_spread_mev: float | None
    """Root mean square of the spreads."""
    energy_spearman: float | None
    """Rank correlation of the frames' spreads and absolute errors, per atom."""
    energy_calibration_error: float | None
    """Mean distance of coverage and confidence over `CONFIDENCE`; 0 is perfect."""
    forces_rmse_mev_per_angstrom: float | None
    forces_spread_mev_per_angstrom: float | None
    forces_spearman: float | None
    """Rank correlation of the atoms' spreads and root mean square errors."""
    forces_calibration_error: float | None

    def as_dict(self) -> dict[str, int | bool | float | None]:
        """The figures under their names, for JSON."""
        return asdict(self)


def spreads_of_frames(ensemble: Ensemble, frames: Sequence[Frame], device: torch.device | None = None) -> list[Spread]:
    """Mean and spread of the members for each frame."""
    names = ensemble.config.type_names
    check_elements(frames, names)
    members = Members(ensemble, device)
    console = Console(stderr=True)
    spreads = []
    for frame in track(frames, "members", console=console, disable=not console.is_terminal):
        types = torch.tensor([names.index(symbol) for symbol in frame.symbols])
        spreads.append(members.spread(torch.tensor(frame.positions), torch.tensor(frame.cell), types))
    return spreads


def compare(frames: Sequence[Frame], spreads: Sequence[Spread]) -> Comparison:
    """Errors beside spreads, where there are labels; of isolated atoms nothing is learnt: they are left out."""
    pairs = [pair for pair in zip(frames, spreads, strict=True) if not pair[0].is_isolated_atom]
    with_energy = [(frame, spread, frame.energy) for frame, spread in pairs if frame.energy is not None]
    with_forces = [(spread, frame.forces) for frame, spread in pairs if frame.forces is not None]
    return Comparison(
        energy_errors=np.array([spread.energy - energy for _, spread, energy in with_energy]),
        energy_spreads=np.array([spread.energy_spread for _, spread, _ in with_energy]),
        energy_atoms=np.array([len(frame.numbers) for frame, _, _ in with_energy], float),
        force_errors=np.concatenate([np.zeros((0, 3)), *(spread.forces.numpy() - own for spread, own in with_forces)]),
        force_spreads=np.concatenate([np.zeros(0), *(spread.force_spread.numpy() for spread, _ in with_forces)]),
    )


def likeliest_factor(errors: Array, spreads: Array) -> float:
    """The factor a that maximises the Gaussian likelihood of errors with standard deviations a·spread.

    The logarithm of the likelihood, -sum log(a·s) - sum e²/(2 a² s²), is largest where a² is the mean of e²/s².
    Spreads below `SMALLEST_SPREAD` are left out: where symmetry makes forces zero, as in a perfect crystal, they are
    rounding errors, and e²/s² has no bound.
    errors, spreads: of shapes that broadcast; not all spreads zero.
    """
    spreads = np.broadcast_to(spreads, errors.shape)
    told = tells(spreads)
    return float(np.sqrt(np.mean(np.square(errors[told] / spreads[told]))))


def tells(spreads: Array) -> NDArray[np.bool_]:
    """Which spreads say something of a factor, see `SMALLEST_SPREAD`."""
    return np.asarray(spreads > _smallest(spreads))


def _smallest(spreads: Array) -> float:
    return SMALLEST_SPREAD * float(np.sqrt(np.mean(np.square(spreads))))


def likeliest_factors(found: Comparison) -> Factors:
    """`likeliest_factor` of the energies and of the forces. found: with the spreads of an uncalibrated ensemble."""
    for what, errors, spreads in (
        ("energies", found.energy_errors, found.energy_spreads),
        ("forces", found.force_errors, found.force_spreads),
    ):
        if len(errors) == 0:
            raise ValueError(
                f"no validation frame of two or more atoms has {what} to calibrate with; name them with the label "
                "options, or give other frames"
            )
        if not spreads.any():
            raise ValueError(
                f"the members agree exactly on all of the {what}; they are copies of each other, or no frame has "
                "atoms that the model sees as neighbours"
            )
    return Factors(
        energy=likeliest_factor(found.energy_errors, found.energy_spreads),
        forces=likeliest_factor(found.force_errors, found.force_spreads[:, None]),
    )


def coverage(errors: Array, spreads: Array) -> Array:
    """Share of the errors within the central Gaussian interval of each probability in `CONFIDENCE`.

    Where error and spread both are below `SMALLEST_SPREAD` they do not count: what symmetry makes zero lies within
    any interval. NaN where nothing is left. errors, spreads: of shapes that broadcast.
    """
    spreads = np.broadcast_to(spreads, errors.shape)
    counts = np.maximum(np.abs(errors), spreads) > _smallest(spreads)
    if not counts.any():
        return np.full(len(CONFIDENCE), np.nan)
    widths = np.sqrt(2) * erfinv(CONFIDENCE)  # in standard deviations
    return np.array([np.mean(np.abs(errors[counts]) <= width * spreads[counts]) for width in widths])


def uncertainty_table(
    ensemble: Ensemble, frames: Sequence[Frame], spreads: Sequence[Spread] | None = None
) -> UncertaintyTable:
    """What the spreads of an ensemble are worth on labelled frames. spreads: of these, where they are known."""
    found = compare(frames, spreads_of_frames(ensemble, frames) if spreads is None else spreads)
    per_atom = found.energy_errors / found.energy_atoms, found.energy_spreads / found.energy_atoms
    of_atoms = np.sqrt(np.square(found.force_errors).mean(1)), found.force_spreads
    return UncertaintyTable(
        n_members=len(ensemble.members),
        n_frames=sum(not frame.is_isolated_atom for frame in frames),
        is_calibrated=ensemble.factors is not None,
        energy_per_atom_rmse_mev=_rms_mev(per_atom[0]),
        energy_per_atom_spread_mev=_rms_mev(per_atom[1]),
        energy_spearman=_rank_correlation(np.abs(per_atom[0]), per_atom[1]),
        energy_calibration_error=_calibration_error(found.energy_errors, found.energy_spreads),
        forces_rmse_mev_per_angstrom=_rms_mev(of_atoms[0]),
        forces_spread_mev_per_angstrom=_rms_mev(of_atoms[1]),
        forces_spearman=_rank_correlation(*of_atoms),
        forces_calibration_error=_calibration_error(found.force_errors, found.force_spreads[:, None]),
    )


def _rms_mev(values: Array) -> float | None:
    return float(np.sqrt(np.square(values).mean())) * EV_TO_MEV if len(values) else None


def _rank_correlation(errors: Array, spreads: Array) -> float | None:
    """None where there are too few to rank, or all are equal."""
    if len(errors) < 3 or np.ptp(errors) == 0 or np.ptp(spreads) == 0:
        return None
    return float(spearmanr(errors, spreads).statistic)


def _calibration_error(errors: Array, spreads: Array) -> float | None:
    """None where nothing can be covered."""
    distance = float(np.abs(coverage(errors, spreads) - CONFIDENCE).mean()) if len(errors) else np.nan
    return None if np.isnan(distance) else distance
