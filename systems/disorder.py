"""Partial occupancies made whole: which positions of a lattice are taken, and by what.

Symbols used in this file
    n  positions on the lattice, occupied or not
"""

import math
from collections.abc import Mapping

import ase
import numpy as np
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

CLOSEST = 2.0
"""Two positions that may be empty are not both taken when they are closer than this [Å]."""
TRIES = 20_000
"""Moves of the search for a draw without close pairs, in a lattice of up to some thousand positions."""


def drawn(
    atoms: ase.Atoms, kinds: NDArray[np.int64], shares: Mapping[int, Mapping[str, float]], random: np.random.Generator
) -> ase.Atoms:
    """The lattice with whole atoms, their numbers as near to the occupancies as the sum over the orbits allows.

    atoms: one for each position; kinds: orbit of each position, (n,); shares: occupancy by element for each orbit.
    Atoms of an element with empty positions beside it start on orbits by their occupancies; those that are too close
    to another move to any empty position of that element until none are.
    """
    symbols = np.array([""] * len(atoms), dtype="<U2")
    open_positions: dict[str, list[int]] = {}
    wanted: dict[str, float] = {}
    for kind, by_element in shares.items():
        positions = np.flatnonzero(kinds == kind)
        total = sum(by_element.values())
        if total > 1.001:
            raise ValueError(f"the occupancies of {_listed(by_element)} on one site add up to {total:.3f}, more than 1")
        if total > 0.999:
            counts = whole_numbers(list(by_element.values()), len(positions))
            symbols[random.permutation(positions)] = np.repeat(list(by_element), counts)
        elif len(by_element) > 1:
            raise ValueError(f"a site is shared by {_listed(by_element)} and empty in part; resolve it in the file")
        else:
            element, share = next(iter(by_element.items()))
            open_positions.setdefault(element, []).extend(positions)
            wanted[element] = wanted.get(element, 0.0) + share * len(positions)
            symbols[random.permutation(positions)[: round(share * len(positions))]] = element
    for element, places in open_positions.items():
        _draw(atoms, symbols, element, np.array(places), round(wanted[element]), random)
    taken = symbols != ""
    whole = atoms[taken]
    whole.symbols = symbols[taken]
    return whole


def whole_numbers(shares: list[float], total: int) -> list[int]:
    """Whole numbers in these proportions that add up to `total`: the largest remainders are rounded up."""
    exact = np.array(shares) / sum(shares) * total
    counts = np.floor(exact + 1e-9).astype(int)
    for index in np.argsort(counts - exact, kind="stable")[: total - counts.sum()]:
        counts[index] += 1
    return [int(count) for count in counts]


def _draw(
    atoms: ase.Atoms,
    symbols: NDArray[np.str_],
    element: str,
    positions: NDArray[np.int64],
    number: int,
    random: np.random.Generator,
) -> None:
    """Put `number` atoms on these positions without close pairs; changes `symbols`.

    Minton's min-conflicts search (Artificial Intelligence 58, 161, 1992): an atom in a close pair moves to the empty
    position with the fewest others around it.
    """
    near = _near(atoms[positions])
    taken = symbols[positions] == element
    while taken.sum() != number:  # rounding by orbit and over all differ by one or two
        surplus = taken.sum() > number
        taken[random.choice(np.flatnonzero(taken == surplus))] = not surplus
    for _ in range(TRIES):
        crowd = near @ taken
        crowded = np.flatnonzero(taken & (crowd > 0))
        if len(crowded) == 0:
            symbols[positions] = np.where(taken, element, "")
            return
        leaving = random.choice(crowded)
        taken[leaving] = False
        crowd = near @ taken + 1e9 * taken
        crowd[leaving] = math.inf
        taken[random.choice(np.flatnonzero(crowd == crowd.min()))] = True
    raise ValueError(
        f"no way was found to put {number} {element} on {len(positions)} positions with {CLOSEST} Å between them; "
        "another seed or a larger supercell may do"
    )


def _near(atoms: ase.Atoms) -> NDArray[np.float64]:
    """1 where two positions are closer than `CLOSEST`, (n, n)."""
    near = np.zeros((len(atoms), len(atoms)))
    first, second = neighbor_list("ij", atoms, CLOSEST)
    near[first, second] = 1.0
    np.fill_diagonal(near, 0.0)
    return near


def _listed(by_element: Mapping[str, float]) -> str:
    return ", ".join(f"{element} {share:g}" for element, share in by_element.items())
