"""Crystals by name: space group, cell and the atoms of the asymmetric unit, from the literature."""

from typing import NamedTuple

Place = tuple[float, float, float]


class Site(NamedTuple):
    """Atoms on one orbit of the space group."""

    shares: dict[str, float]
    """Occupancy by element; what is missing to 1 is empty."""
    place: Place
    """Fractional coordinates of one of them."""


class CrystalData(NamedTuple):
    """What a diffraction experiment says of a crystal."""

    spacegroup: int
    setting: int
    """Origin choice of the International Tables, 1 or 2."""
    cell: tuple[float, float, float, float, float, float]
    """Lengths [Å] and angles [°] of the conventional cell."""
    sites: tuple[Site, ...]
    density: float
    """X-ray density [g/cm³], from the cell and the formula."""
    reference: str


def _cubic(a: float) -> tuple[float, float, float, float, float, float]:
    return (a, a, a, 90.0, 90.0, 90.0)


def _full(element: str, *places: Place) -> tuple[Site, ...]:
    return tuple(Site({element: 1.0}, place) for place in places)


CRYSTALS = {
    "ag": CrystalData(225, 1, _cubic(4.0853), _full("Ag", (0, 0, 0)), 10.51, "Wyckoff, Crystal Structures 1 (1963)"),
    "li": CrystalData(229, 1, _cubic(3.5093), _full("Li", (0, 0, 0)), 0.533, "Wyckoff, Crystal Structures 1 (1963)"),
    "si": CrystalData(227, 1, _cubic(5.4310), _full("Si", (0, 0, 0)), 2.329, "CODATA lattice parameter, 22.5 °C"),
    "nacl": CrystalData(
        225,
        1,
        _cubic(5.6402),
        _full("Na", (0, 0, 0)) + _full("Cl", (0.5, 0.5, 0.5)),
        2.163,
        "Wyckoff, Crystal Structures 1 (1963)",
    ),
    "li3po4-gamma": CrystalData(
        62,
        1,
        (10.490, 6.120, 4.9266, 90.0, 90.0, 90.0),
        _full("Li", (0.1639, 0.5013, 0.3013), (0.4236, 0.75, 0.2056))
        + _full("P", (0.4115, 0.25, 0.3082))
        + _full("O", (0.3417, 0.0437, 0.2057), (0.0503, 0.25, 0.2937), (0.0896, 0.75, 0.1217)),
        2.43,
        "Zemann, Acta Cryst. 13, 863 (1960); Yakubovich and Urusov, Crystallogr. Rep. 42, 261 (1997)",
    ),
    "li3po4-beta": CrystalData(
        31,
        1,
        (6.1150, 5.2394, 4.8554, 90.0, 90.0, 90.0),
        _full("Li", (0.248, 0.328, 0.986), (0.5, 0.843, 0.989))
        + _full("P", (0.0, 0.8243, 0.0))
        + _full("O", (0.2077, 0.6863, 0.8962), (0.0, 0.1049, 0.8990), (0.5, 0.1857, 0.8193)),
        2.47,
        "Keffer, Mighell, Mauer, Swanson and Block, Inorg. Chem. 6, 119 (1967)",
    ),
    # The positions are those of the four images of each atom in the first frame of the LiPS20 set
    # (https://github.com/M3RG-IITD/MDBENCHGNN, arXiv:2310.02428), which starts from this structure, made symmetric.
    "li6ps5cl": CrystalData(
        216,
        1,
        _cubic(9.859),
        (Site({"Li": 0.5}, (0.183, 0.183, -0.024)),)
        + _full("P", (0.5, 0.5, 0.5))
        + _full("S", (0.3803, 0.3803, 0.3803))
        + (
            Site({"Cl": 0.385, "S": 0.615}, (0.0, 0.0, 0.0)),
            Site({"Cl": 0.615, "S": 0.385}, (0.75, 0.75, 0.75)),
        ),
        1.86,
        "Deiseroth et al., Angew. Chem. 120, 767 (2008); sulfur and chlorine: Kraft et al., JACS 139, 10909 (2017)",
    ),
    "llzo-cubic": CrystalData(
        230,
        1,
        _cubic(12.9682),
        (
            Site({"Li": 0.542}, (0.375, 0.0, 0.25)),
            Site({"Li": 0.448}, (0.0965, 0.6866, 0.5755)),
        )
        + _full("La", (0.125, 0.0, 0.25))
        + _full("Zr", (0.0, 0.0, 0.0))
        + _full("O", (0.1004, 0.1951, 0.2813)),
        5.11,
        "Awaka et al., Chem. Lett. 40, 60 (2011); occupancies: Xie et al., Chem. Mater. 23, 3587 (2011)",
    ),
    "llzo-tetragonal": CrystalData(
        142,
        2,
        (13.134, 13.134, 12.663, 90.0, 90.0, 90.0),
        _full("Li", (0.0, 0.25, 0.375), (0.1806, 0.4306, 0.125), (0.0794, 0.0863, 0.8099))
        + _full("La", (0.0, 0.25, 0.125), (0.1270, 0.0, 0.25))
        + _full("Zr", (0.0, 0.0, 0.0))
        + _full("O", (-0.0335, 0.0546, 0.1528), (0.0536, 0.8524, 0.5354), (0.1499, 0.0268, 0.4467)),
        5.11,
        "Awaka, Kijima, Hayakawa and Akimoto, J. Solid State Chem. 182, 2046 (2009)",
    ),
}
"""By the names that the command line takes."""

OXIDATION_STATES = {
    "H": 1,
    "Li": 1,
    "Na": 1,
    "K": 1,
    "Mg": 2,
    "Ca": 2,
    "Sr": 2,
    "Ba": 2,
    "Zn": 2,
    "Al": 3,
    "Ga": 3,
    "Y": 3,
    "La": 3,
    "Si": 4,
    "Ge": 4,
    "Sn": 4,
    "Ti": 4,
    "Zr": 4,
    "Hf": 4,
    "P": 5,
    "Nb": 5,
    "Ta": 5,
    "W": 6,
    "O": -2,
    "S": -2,
    "Se": -2,
    "N": -3,
    "F": -1,
    "Cl": -1,
    "Br": -1,
    "I": -1,
}
"""The usual ones, by which a crystal is neutral."""

ONLY_FROM_A_FILE = {"li7p3s11": "Yamane et al., Solid State Ionics 178, 1163 (2007)"}
"""Crystals whose positions are not written down here, and where they were published."""
