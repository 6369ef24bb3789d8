"""Radial part: how an edge length and two types become scalar features, and the core repulsion.

Symbols used in this file
    n  centre atoms            k  neighbour slots
    r  edge length [Å]         x  r / cutoff of the pair of types, dimensionless
    b  basis functions         e  width of the embedding
"""

import math

import torch
from torch import Tensor
from torch.nn import Embedding, Parameter

from openmm_allegro import units
from openmm_allegro.config import AllegroConfig
from openmm_allegro.mlp import ScaledLinear


def envelope(x: Tensor, power: int) -> Tensor:
    """Polynomial that is 1 at x = 0 and 0 beyond 1, with two zero derivatives there.

    Gasteiger et al., Directional message passing, ICLR 2020, eq. 8.
    """
    p = float(power)
    mask = x < 1.0
    x = x.clamp(max=1.0)  # padding lies far beyond, where a high power overflows
    inside = (
        1.0
        - 0.5 * (p + 1.0) * (p + 2.0) * torch.pow(x, power)
        + p * (p + 2.0) * torch.pow(x, power + 1)
        - 0.5 * p * (p + 1.0) * torch.pow(x, power + 2)
    )
    return inside * mask


def envelope_slope(x: Tensor, power: int) -> Tensor:
    """Derivative of `envelope`."""
    p = float(power)
    inside = (-0.5 * p * (p + 1.0) * (p + 2.0)) * torch.pow(x.clamp(max=1.0), power - 1) * (1.0 - x).square()
    return inside * (x < 1.0)


class BesselEmbedding(torch.nn.Module):
    """Bessel functions of the length times an embedding of the two types."""

    def __init__(self, config: AllegroConfig, dtype: torch.dtype) -> None:
        super().__init__()
        n_types = len(config.type_names)
        self.power = config.polynomial_cutoff_p
        frequencies = torch.arange(1, config.num_bessels + 1, dtype=dtype)
        self.frequencies = Parameter(frequencies, requires_grad=config.bessel_trainable)
        self.basis_linear = ScaledLinear(config.num_bessels, config.embed_dim, 1.0, dtype)
        self.centre_embed = Embedding(n_types, config.embed_dim // 2, dtype=dtype)
        self.neighbour_embed = Embedding(n_types, config.embed_dim // 2, dtype=dtype)

    def forward(self, x: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
        """x: (n, k), may be more precise; centre_types: (n,); neighbour_types: (n, k). Returns (n, k, e)."""
        x = x.unsqueeze(2)
        bessel = torch.sin((math.pi * x) * self.frequencies) * (envelope(x, self.power) / (math.pi * x))
        return self.embed_types(centre_types, neighbour_types) * self.basis_linear(bessel.to(self.frequencies.dtype))

    def embed_types(self, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
        """centre_types: (n,); neighbour_types: (n, k). Returns (n, k, e)."""
        centre = self.centre_embed(centre_types).unsqueeze(1).expand(-1, neighbour_types.shape[1], -1)
        return torch.cat((centre, self.neighbour_embed(neighbour_types)), dim=2)

    def slope(self, x: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
        """Derivative with respect to x, (n, k, e)."""
        x = x.unsqueeze(2)
        phase = (math.pi * x) * self.frequencies
        decay = envelope(x, self.power) / (math.pi * x)
        decay_slope = envelope_slope(x, self.power) / (math.pi * x) - decay / x
        slope = torch.cos(phase) * (decay * math.pi * self.frequencies) + torch.sin(phase) * decay_slope
        return self.embed_types(centre_types, neighbour_types) * self.basis_linear(slope.to(self.frequencies.dtype))


class SplineEmbedding(torch.nn.Module):
    """One trained spline for each ordered pair of types and each feature, zero with two derivatives at x = 1."""

    lower: Tensor

    def __init__(self, config: AllegroConfig, dtype: torch.dtype) -> None:
        super().__init__()
        self.n_types = len(config.type_names)
        self.n_features = config.embed_dim
        self.n_splines = config.num_splines
        lower = torch.arange(-config.spline_span, config.num_splines - config.spline_span, dtype=dtype)
        width = (config.spline_span + 1) / config.num_splines
        self.width = width
        self.register_buffer("lower", lower / config.num_splines)
        self.coefficients = Embedding(self.n_types**2, self.n_features * self.n_splines, dtype=dtype)
        bound = math.sqrt(3 / max(config.spline_span, 1))
        torch.nn.init.uniform_(self.coefficients.weight, -bound, bound)

    def forward(self, x: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
        """x: (n, k), may be more precise; centre_types: (n,); neighbour_types: (n, k). Returns (n, k, e)."""
        phase = (x.unsqueeze(2) - self.lower).clamp(0.0, self.width) * (2 * math.pi / self.width)
        return self.combine(0.25 * (1 - torch.cos(phase)).square(), centre_types, neighbour_types)

    def combine(self, basis: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
        """basis: (n, k, b). Returns (n, k, e)."""
        pair_types = centre_types.unsqueeze(1) * self.n_types + neighbour_types
        table = self.coefficients(pair_types).view(basis.shape[0], basis.shape[1], self.n_features, self.n_splines)
        return (table * basis.to(table.dtype).unsqueeze(2)).sum(3)

    def slope(self, x: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
        """Derivative with respect to x, (n, k, e)."""
        phase = (x.unsqueeze(2) - self.lower).clamp(0.0, self.width) * (2 * math.pi / self.width)
        slope = 0.5 * (1 - torch.cos(phase)) * torch.sin(phase) * (2 * math.pi / self.width)
        return self.combine(slope, centre_types, neighbour_types)


class ZBLRepulsion(torch.nn.Module):
    """Screened repulsion of two nuclei, half of it counted at each end.

    Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Solids (1985), with LAMMPS's constants.
    """

    charges: Tensor
    weights: Tensor
    decays: Tensor

    def __init__(self, config: AllegroConfig, dtype: torch.dtype) -> None:
        super().__init__()
        self.power = config.zbl_polynomial_cutoff_p
        self.register_buffer("charges", torch.tensor(config.atomic_numbers, dtype=dtype))
        self.register_buffer("weights", torch.tensor([0.02817, 0.28022, 0.50986, 0.18175], dtype=dtype))
        self.register_buffer("decays", torch.tensor([0.20162, 0.40290, 0.94229, 3.19980], dtype=dtype))

    def forward(self, r: Tensor, x: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
        """r: (n, k) [Å]; x: (n, k). Returns the energy of each edge (n, k) [eV]."""
        coulomb, decays = self.coulomb_and_decays(centre_types, neighbour_types)
        screening = (self.weights * torch.exp(-decays * r.unsqueeze(2))).sum(2)
        return coulomb / r * screening * envelope(x, self.power)

    def coulomb_and_decays(self, centre_types: Tensor, neighbour_types: Tensor) -> tuple[Tensor, Tensor]:
        """Half the energy of two bare nuclei times their distance (n, k) [eV Å], and decays (n, k, 4) [1/Å]."""
        z_centre = self.charges[centre_types].unsqueeze(1)
        z_neighbour = self.charges[neighbour_types]
        decays = self.decays * ((z_centre**0.23 + z_neighbour**0.23) / 0.46850).unsqueeze(2)
        return 0.5 * units.COULOMB_EV_ANGSTROM * z_centre * z_neighbour, decays

    def slope(self, r: Tensor, x: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
        """Derivative with respect to r, with x in proportion to it, (n, k) [eV/Å]."""
        coulomb, decays = self.coulomb_and_decays(centre_types, neighbour_types)
        terms = self.weights * torch.exp(-decays * r.unsqueeze(2))
        screening, screening_slope = terms.sum(2), -(decays * terms).sum(2)
        cut, cut_slope = envelope(x, self.power), envelope_slope(x, self.power) * x / r
        return coulomb / r * (screening * (cut_slope - cut / r) + screening_slope * cut)
