"""Partial occupancies made whole: which positions of a lattice are taken, and by what.

Symbols used in this file
    n  positions on the lattice, occupied or not
"""

from collections.abc import Mapping

import ase
import numpy as np
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from openmm_allegro.systems.crystal_data import OXIDATION_STATES

CLOSEST = 2.0
"""Two positions that may be empty are not both taken when they are closer than this [Å]."""
FULL = 0.999
"""Occupancies have three digits; a site with more is full."""
TRIES_PER_POSITION = 200
"""Moves of the search for a draw without close pairs."""


def drawn(
    atoms: ase.Atoms, kinds: NDArray[np.int64], shares: Mapping[int, Mapping[str, float]], random: np.random.Generator
) -> ase.Atoms:
    """The lattice with whole atoms, their numbers as near to the occupancies as can be, and neutral where these are.

    atoms: one for each position; kinds: orbit of each position, (n,); shares: occupancy by element for each orbit.
    Atoms of an element with empty positions beside it start on orbits by their occupancies; those that are too close
    to another move to any empty position of that element until none are.
    """
    symbols = np.array([""] * len(atoms), dtype="<U2")
    rest: dict[str, float] = {}  # of each element what rounding has left; the next shared orbit gets it
    open_positions: dict[str, list[int]] = {}
    wanted: dict[str, float] = {}
    for kind, by_element in shares.items():
        _check_site(by_element)
        positions = random.permutation(np.flatnonzero(kinds == kind))
        first, share = next(iter(by_element.items()))
        if len(by_element) > 1:
            exact = np.array([share * len(positions) + rest.get(element, 0.0) for element, share in by_element.items()])
            counts = _rounded(exact, len(positions))
            rest.update(zip(by_element, exact - counts, strict=True))
            symbols[positions] = np.repeat(list(by_element), counts)
        elif share > FULL:
            symbols[positions] = first
        else:
            open_positions.setdefault(first, []).extend(positions)
            wanted[first] = wanted.get(first, 0.0) + share * len(positions)
            symbols[positions[: round(share * len(positions))]] = first
    others: list[int] = []
    for element, places in open_positions.items():
        fixed = symbols.copy()
        fixed[places] = ""
        number = round(wanted[element])
        if len(open_positions) == 1 and _is_neutral(kinds, shares):
            number = _neutral_number(fixed, element, number)
        _draw(atoms, symbols, element, np.array(places), number, np.array(others, dtype=np.int64), random)
        others += places
    taken = symbols != ""
    whole = atoms[taken]
    whole.symbols = symbols[taken]
    return whole


def whole_numbers(shares: list[float], total: int) -> list[int]:
    """Whole numbers in these proportions that add up to `total`: the largest remainders are rounded up."""
    return [int(count) for count in _rounded(np.array(shares) / sum(shares) * total, total)]


def _rounded(exact: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers that add up to `total`, which is nearly the sum of `exact`."""
    counts = np.maximum(np.floor(exact + 1e-9), 0).astype(np.int64)
    while counts.sum() != total:
        step = 1 if counts.sum() < total else -1
        counts[np.argmax(step * (exact - counts))] += step
    return counts


def _check_site(by_element: Mapping[str, float]) -> None:
    total = sum(by_element.values())
    if total > 2 - FULL:
        raise ValueError(f"the occupancies of {_listed(by_element)} on one site add up to {total:.3f}, more than 1")
    if total <= FULL and len(by_element) > 1:
        raise ValueError(f"a site is shared by {_listed(by_element)} and empty in part; resolve it in the file")


def _is_neutral(kinds: NDArray[np.int64], shares: Mapping[int, Mapping[str, float]]) -> bool:
    """Whether the occupancies, which have three digits, are by the usual oxidation states."""
    total, charges = 0.0, 0
    for kind, by_element in shares.items():
        for element, share in by_element.items():
            if element not in OXIDATION_STATES:
                return False
            of_site = OXIDATION_STATES[element] * int((kinds == kind).sum())
            total += of_site * share
            charges += abs(of_site) if share < FULL else 0
    return abs(total) <= (1 - FULL) * charges


def _neutral_number(fixed: NDArray[np.str_], element: str, number: int) -> int:
    """How many of this element balance the atoms that are fixed; `number` where whole ones cannot."""
    charge = sum(OXIDATION_STATES[str(symbol)] for symbol in fixed[fixed != ""])
    balancing, left = divmod(-charge, OXIDATION_STATES[element])
    return balancing if left == 0 else number


def _draw(
    atoms: ase.Atoms,
    symbols: NDArray[np.str_],
    element: str,
    positions: NDArray[np.int64],
    number: int,
    others: NDArray[np.int64],
    random: np.random.Generator,
) -> None:
    """Put `number` atoms on these positions without close pairs; changes `symbols`.

    others: positions on which other elements have been drawn, to which they keep the same distance.

    Minton's min-conflicts search (Artificial Intelligence 58, 161, 1992): an atom in a close pair moves to the empty
    position with the fewest others around it.
    """
    near = _near(atoms[positions])
    taken = symbols[positions] == element
    while taken.sum() != number:  # rounding by orbit and over all differ by one or two
        surplus = taken.sum() > number
        taken[random.choice(np.flatnonzero(taken == surplus))] = not surplus
    crowd = np.array([taken[neighbours].sum() for neighbours in near])
    crowd[np.isin(positions, _beside(atoms, others[symbols[others] != ""]))] += len(positions)
    for _ in range(TRIES_PER_POSITION * len(positions)):
        crowded = np.flatnonzero(taken & (crowd > 0))
        if len(crowded) == 0:
            symbols[positions] = np.where(taken, element, "")
            return
        leaving = random.choice(crowded)
        taken[leaving] = False
        crowd[near[leaving]] -= 1
        empty = np.flatnonzero(~taken)
        empty = empty[empty != leaving]
        if len(empty) == 0:
            break
        entering = random.choice(empty[crowd[empty] == crowd[empty].min()])
        taken[entering] = True
        crowd[near[entering]] += 1
    raise ValueError(
        f"no way was found to put {number} {element} on {len(positions)} positions with {CLOSEST} Å between them; "
        "another seed or a larger supercell may do"
    )


def _near(atoms: ase.Atoms) -> list[NDArray[np.int64]]:
    """For each position the others that are closer than `CLOSEST`, each once, also where two of its images are."""
    pairs = np.unique(np.stack(neighbor_list("ij", atoms, CLOSEST), axis=1), axis=0)
    first, second = pairs[pairs[:, 0] != pairs[:, 1]].T
    return np.split(second, np.cumsum(np.bincount(first, minlength=len(atoms)))[:-1])


def _beside(atoms: ase.Atoms, taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions that are closer than `CLOSEST` to one of these, and these themselves."""
    first, second = neighbor_list("ij", atoms, CLOSEST)
    return np.union1d(taken, first[np.isin(second, taken)])


def _listed(by_element: Mapping[str, float]) -> str:
    return ", ".join(f"{element} {share:g}" for element, share in by_element.items())
