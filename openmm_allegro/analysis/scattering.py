"""How strongly an atom scatters neutrons and X-rays; periodictable holds the tables.

Symbols used in this file
    q  momentum transfer [1/nm]
"""

import re

import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units

Array = NDArray[np.float64]
WEIGHTINGS = ("neutron", "x-ray", "number")


def scattering_lengths(
    elements: tuple[str, ...], weighting: str, q_per_nm: Array, isotopes: tuple[str, ...] = ()
) -> Array:
    """Of every element at every q, (elements, q): fm for neutrons, electrons for X-rays, 1 for `number`.

    Coherent scattering lengths of the natural mixture of isotopes, or of those named, such as `2H` and `7Li` (V. F.
    Sears, Neutron News 3, 26 (1992), and later measurements); form factors of free neutral atoms (D. Waasmaier and A.
    Kirfel, Acta Cryst. A 51, 416 (1995)).
    """
    import periodictable

    if weighting not in WEIGHTINGS:
        raise ValueError(f"`weighting` is `{weighting}`; choose from {', '.join(WEIGHTINGS)}")
    if isotopes and weighting != "neutron":
        raise ValueError(f"isotopes scatter neutrons differently, not `{weighting}`; leave `isotopes` out")
    if weighting == "number":
        return np.ones((len(elements), len(q_per_nm)))
    if weighting == "x-ray":
        q_per_angstrom = q_per_nm / units.NM_TO_ANGSTROM
        return np.array([periodictable.elements.symbol(each).xray.f0(q_per_angstrom) for each in elements])
    mass_numbers = dict(_isotope(each, elements) for each in isotopes)
    lengths = np.empty(len(elements))
    for k, element in enumerate(elements):
        natural, number = periodictable.elements.symbol(element), mass_numbers.get(element)
        if number is not None and number not in natural.isotopes:
            known = ", ".join(f"{each}{element}" for each in natural.isotopes)
            raise ValueError(f"there is no isotope {number}{element}; choose from {known}")
        length = natural.neutron.b_c if number is None else natural[number].neutron.b_c
        if length is None:
            raise ValueError(f"no neutron scattering length of {number or ''}{element} is tabulated; choose another")
        lengths[k] = length
    return np.repeat(lengths[:, None], len(q_per_nm), axis=1)


def _isotope(name: str, elements: tuple[str, ...]) -> tuple[str, int]:
    """`7Li` to its element and mass number."""
    found = re.fullmatch(r"(\d+)([A-Z][a-z]?)", name)
    if found is None or found[2] not in elements:
        raise ValueError(f"`{name}` is no isotope of {', '.join(elements)}; write for example `2H` or `7Li`")
    return found[2], int(found[1])
