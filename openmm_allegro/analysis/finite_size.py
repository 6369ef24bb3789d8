"""Diffusion in a periodic box to that in an infinite one."""

import math

import numpy as np
from numpy.typing import NDArray

from openmm_allegro import units

CUBIC_LATTICE_SUM = 2.837297


def box_correction_cm2_per_s(cells_nm: NDArray[np.float64], temperature_k: float, viscosity_mpa_s: float) -> float:
    """What is added to a self-diffusion coefficient: 2.837297 kT/(6 π η L), for a cubic box.

    I.-C. Yeh and G. Hummer, J. Phys. Chem. B 108, 15873 (2004), equation 12. cells_nm: (f, 3, 3), whose mean volume
    sets L. The viscosity does not depend on the size of the box.
    """
    if temperature_k <= 0 or viscosity_mpa_s <= 0:
        raise ValueError(
            f"`temperature_k` is {temperature_k} and `viscosity_mpa_s` {viscosity_mpa_s}; both must be positive"
        )
    volumes = np.linalg.det(cells_nm)
    edges = np.linalg.norm(cells_nm, axis=2)
    cosines = np.abs(np.einsum("fax,fbx->fab", cells_nm, cells_nm) / np.einsum("fa,fb->fab", edges, edges))
    off = max(float((cosines - np.eye(3)).max()), float((edges.max(axis=1) / edges.min(axis=1) - 1).max()))
    if off > 0.01:
        raise ValueError(
            f"the box is not cubic (edges {', '.join(f'{edge:.3f}' for edge in edges[0])} nm), but the correction of "
            f"Yeh and Hummer is for cubic boxes; leave `viscosity_mpa_s` out"
        )
    length_m = float(volumes.mean()) ** (1 / 3) * 1e-9
    drag = 6 * math.pi * viscosity_mpa_s * 1e-3 * length_m
    return CUBIC_LATTICE_SUM * units.BOLTZMANN_J_PER_K * temperature_k / drag * 1e4
