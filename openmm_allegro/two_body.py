"""What depends on an edge's length and two types only: by its network, or from a spline table.

Symbols used in this file
    n  centre atoms        k  neighbour slots        z  edges, n·k
    x  length / cutoff     f  features of an edge    i  intervals of the table, on [0, 1]
"""

import math

import torch
from torch import Tensor

from openmm_allegro.dense import HiddenLayers, Linear, dense_weights, live_weights
from openmm_allegro.model import Allegro
from openmm_allegro.torchscript import without_deprecation

DEGREE = 5
MOST_TABLE_BYTES = 2**27
"""Of each of the two arrays of a table, in float32."""
FINEST = 1024


class TwoBodyNetwork(torch.nn.Module):
    """The two-body embedding and its hidden layers as they are."""

    def __init__(self, model: Allegro, last: Tensor) -> None:
        """last: linear map from the last hidden features to the features of an edge, (h, f) float64."""
        super().__init__()
        config = model.config
        weights = dense_weights(model.two_body_mlp)[:-1]
        self.embedding = model.two_body
        self.entrance = Linear(weights[0], model.dtype) if weights else None
        self.hidden = HiddenLayers(weights[1:], config.scalar_embed_mlp_nonlinearity, not weights, model.dtype)
        self.last = Linear(last, model.dtype)
        self.n_types = model.n_types
        splines = config.num_splines if config.radial_chemical_embed == "spline" else 1
        self.n_floats = (4 + 2 * splines) * config.embed_dim + 3 * sum(weight.shape[1] for weight in weights)
        """Kept for the gradient of each edge."""

    def put(self, model: Allegro, last: Tensor) -> None:
        """Take the weights that the model has now, with their graph."""
        weights = live_weights(model.two_body_mlp)[:-1]
        self.embedding = model.two_body
        if self.entrance is not None:
            self.entrance.put(weights[0])
        self.hidden.put(weights[1:])
        self.last.put(last)

    def forward(self, x: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """x: (n, k). Returns the features (z, f), and what `gradient` wants back."""
        features = self.embedding(x, centre_types, neighbour_types).flatten(0, 1)
        if self.entrance is not None:
            features = self.entrance(features)
        hidden, entering = self.hidden(features)
        slope = self.embedding.slope(x, centre_types, neighbour_types)
        return self.last(hidden), slope, entering

    def gradient(self, grad: Tensor, slope: Tensor, entering: list[Tensor]) -> Tensor:
        """grad: (z, f). Returns the derivative with respect to x, (n, k)."""
        grad = self.hidden.gradient(self.last.gradient(grad), entering)
        if self.entrance is not None:
            grad = self.entrance.gradient(grad)
        return (grad.view_as(slope) * slope).sum(2)


class TwoBodyTable(torch.nn.Module):
    """The same features from quintic B-splines on an even grid; zero from x = 1 on.

    Slopes are quartic splines of the differences between coefficients, which are taken before they are rounded: in
    single precision those of rounded ones would be wrong by as many times its rounding as there are intervals.
    """

    coefficients: Tensor
    differences: Tensor
    basis: Tensor
    slope_basis: Tensor
    offsets: Tensor

    def __init__(self, coefficients: Tensor, error: float, dtype: torch.dtype) -> None:
        """coefficients: (pairs of types, intervals + 5, f) float64; error: largest relative error of a slope."""
        super().__init__()
        n_pairs, n_rows, _ = coefficients.shape
        self.n_types = round(n_pairs**0.5)
        self.n_rows = n_rows
        self.n_intervals = n_rows - DEGREE
        self.error = error
        self.n_floats = 6 * (DEGREE + 1)
        """Kept for the gradient of each edge; indices count twice."""
        differences = torch.zeros_like(coefficients)  # the last row of a pair of types is not used
        differences[:, :-1] = coefficients.diff(dim=1) * self.n_intervals
        self.register_buffer("coefficients", coefficients.flatten(0, 1).to(dtype), persistent=False)
        self.register_buffer("differences", differences.flatten(0, 1).to(dtype), persistent=False)
        basis = spline_basis()
        self.register_buffer("basis", basis.to(dtype), persistent=False)
        self.register_buffer("slope_basis", difference_basis(basis).to(dtype), persistent=False)
        self.register_buffer("offsets", torch.arange(DEGREE + 1), persistent=False)

    def forward(self, x: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """x: (n, k). Returns the features (z, f), and what `gradient` wants back."""
        row, t = self.place(x, centre_types, neighbour_types)
        return self.interpolate(self.coefficients, row, self.weights(t, self.basis)), t, [row]

    def gradient(self, grad: Tensor, t: Tensor, row: list[Tensor]) -> Tensor:
        """grad: (z, f). Returns the derivative with respect to x, (n, k)."""
        slopes = self.interpolate(self.differences, row[0], self.weights(t, self.slope_basis))
        return slopes.mul_(grad).sum(1).view_as(t)

    def place(self, x: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> tuple[Tensor, Tensor]:
        """x: (n, k), may be more precise.

        Returns the first of the rows of the table that count (z,), and where in its interval x is.
        """
        place = (x * self.n_intervals).clamp(max=float(self.n_intervals))
        interval = place.floor().clamp(max=float(self.n_intervals - 1))
        pair = centre_types.unsqueeze(1) * self.n_types + neighbour_types
        row = (pair * self.n_rows + interval.to(torch.int64)).flatten()
        t = (place - interval).to(self.coefficients.dtype)  # rounded to 1 just below a knot, where it still counts
        return row, t.masked_fill(x >= 1.0, 2.0)

    def weights(self, t: Tensor, polynomials: Tensor) -> Tensor:
        """Polynomials (powers, p) of t (n, k), nothing from the cutoff on, where t is 2. Returns (z, p)."""
        t = t.reshape(-1, 1)
        weights = polynomials[-1].expand(t.shape[0], -1)
        for power in range(polynomials.shape[0] - 2, -1, -1):
            weights = torch.addcmul(polynomials[power], weights, t)
        return weights * (t <= 1.0)

    def interpolate(self, table: Tensor, row: Tensor, weights: Tensor) -> Tensor:
        """Σ_j weights[z, j] table[row[z] + j]. table: (rows, f); row: (z,); weights: (z, p). Returns (z, f)."""
        rows = row.unsqueeze(1) + self.offsets[: weights.shape[1]]
        return torch.nn.functional.embedding_bag(rows, table, mode="sum", per_sample_weights=weights)


def table_of(model: Allegro, last: Tensor, tolerance: float = 5e-7) -> TwoBodyTable | None:
    """A table as coarse as it can be while every slope is right to this part of the feature's largest slope.

    last: linear map from the last hidden features to the features of an edge, (h, f) float64. None where
    the finest table that is allowed would not do.
    """
    exact = Allegro(model.config, torch.float64)
    exact.load_state_dict(model.state_dict())
    network = TwoBodyNetwork(exact.requires_grad_(False), last)
    n_pairs = len(model.config.type_names) ** 2
    n_intervals = 64
    while n_intervals <= FINEST and n_pairs * n_intervals * last.shape[1] * 4 <= MOST_TABLE_BYTES:
        fit = SplineFit(n_intervals)
        tables: list[Tensor] = []
        worst = 0.0
        for pair in range(n_pairs):
            coefficients, error = fit.of(network, pair)
            tables.append(coefficients)
            worst = max(worst, error)
            if worst > tolerance:
                break
        else:
            return TwoBodyTable(torch.stack(tables), worst, model.dtype)
        n_intervals *= 2
    return None


class SplineFit:
    """Least-squares fits on one grid, at four places in each interval."""

    def __init__(self, n_intervals: int) -> None:
        step = torch.arange(n_intervals, dtype=torch.float64).unsqueeze(1)
        places = (step + (torch.arange(4, dtype=torch.float64) + 0.5) / 4).flatten()
        self.x = places / n_intervals
        self.smooth = torch.block_diag(torch.eye(n_intervals, dtype=torch.float64), vanishing_ends())
        self.design = design_matrix(places, n_intervals, derivative=False) @ self.smooth
        self.slope_design = design_matrix(places, n_intervals, derivative=True) @ self.smooth
        self.normal = torch.linalg.cholesky(self.design.t() @ self.design)

    def of(self, network: TwoBodyNetwork, pair: int) -> tuple[Tensor, float]:
        """Splines of all features of a pair of types, (intervals + 5, f), and the largest error of their slopes."""
        features, slopes = features_and_slopes(network, self.x, pair)
        solution = torch.cholesky_solve(self.design.t() @ features, self.normal)
        error = (self.slope_design @ solution - slopes).abs().amax(0) / slopes.abs().amax(0).clamp(min=1e-300)
        return self.smooth @ solution, float(error.max())


def vanishing_ends() -> Tensor:
    """All ends of five coefficients with which a spline is zero at x = 1 with two derivatives, (5, 2) float64."""
    basis = spline_basis()
    rows = []
    for _ in range(3):
        rows.append(basis.sum(0)[1:])  # at t = 1, where the leftmost spline has ended
        basis = slope_basis(basis)
    return torch.linalg.svd(torch.stack(rows)).Vh[3:].t()


def features_and_slopes(network: TwoBodyNetwork, x: Tensor, pair: int) -> tuple[Tensor, Tensor]:
    """Features of edges of one ordered pair of types, and their derivatives. x: (z,). Returns (z, f) twice."""
    centre_types = torch.tensor([pair // network.n_types])
    neighbour_types = torch.full((1, len(x)), pair % network.n_types)

    def features(x: Tensor) -> Tensor:
        return network(x.unsqueeze(0), centre_types, neighbour_types)[0]

    with without_deprecation():  # at its first call torch scripts some functions
        return torch.func.jvp(features, (x,), (torch.ones_like(x),))


def design_matrix(places: Tensor, n_intervals: int, derivative: bool) -> Tensor:
    """What each spline contributes at places (z,) on the grid, or to the derivative. Returns (z, intervals + 5)."""
    polynomials = spline_basis()
    if derivative:
        polynomials = slope_basis(polynomials) * n_intervals
    interval = places.floor().clamp(max=n_intervals - 1)
    t = (places - interval).unsqueeze(1)
    weights = sum(polynomials[power] * t**power for power in range(len(polynomials)))
    columns = interval.to(torch.int64).unsqueeze(1) + torch.arange(DEGREE + 1)
    return torch.zeros((len(places), n_intervals + DEGREE), dtype=torch.float64).scatter(1, columns, weights)


def spline_basis() -> Tensor:
    """The six quintic B-splines that overlap in an interval, as polynomials in the place t in it: (powers, 6) float64.

    Column j is N(t + 5 - j), with N the B-spline on the knots 0 … 6.
    """
    pieces = torch.zeros((DEGREE + 1, DEGREE + 1), dtype=torch.float64)
    for j in range(DEGREE + 1):
        for knot in range(DEGREE + 1 - j):  # truncated powers (t + 5 - j - knot)^5 of the knots to the left
            sign = (-1) ** knot * math.comb(DEGREE + 1, knot) / math.factorial(DEGREE)
            shift = DEGREE - j - knot
            for power in range(DEGREE + 1):
                pieces[power, j] += sign * math.comb(DEGREE, power) * float(shift) ** (DEGREE - power)
    return pieces


def slope_basis(polynomials: Tensor) -> Tensor:
    """Derivatives of polynomials in t. polynomials: (powers, 6), from the power 0 on."""
    powers = torch.arange(1, polynomials.shape[0], dtype=polynomials.dtype)
    return polynomials[1:] * powers.unsqueeze(1)


def difference_basis(polynomials: Tensor) -> Tensor:
    """The five quartic splines that multiply differences of neighbouring coefficients in the slope, (powers, 5).

    polynomials: of `spline_basis`. Σ_j c_j S_j is -Σ_j (c_j+1 - c_j)(S_0 + … + S_j), because all slopes S add to zero.
    """
    return -slope_basis(polynomials).cumsum(1)[:, :-1]
