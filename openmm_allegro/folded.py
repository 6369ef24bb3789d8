"""Allegro for dynamics: the same function, with maps that follow each other multiplied and the gradient written out.

Between two nonlinearities Allegro is linear, so the output map of each network and the input maps of all that
read it are one matrix; what depends on an edge's length and types alone (`two_body`) ends in one as well.

Symbols used in this file
    n  centre atoms     k  neighbour slots     z  edges, n·k     m  components of the harmonics
    u  tensor channels  c  weights of every order, orders·u      s  scalar features
"""

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor

from openmm_allegro.dense import HiddenLayers, Linear, WeightsOf, dense_weights, live_weights
from openmm_allegro.edges import EdgeHarmonics, Edges
from openmm_allegro.model import Allegro
from openmm_allegro.operators import AtomOperator
from openmm_allegro.two_body import TwoBodyNetwork, TwoBodyTable, table_of
from openmm_allegro.typed import ModulesOf


class Passed(NamedTuple):
    """What a layer left behind for the way back."""

    weights: Tensor
    """Of its environment (n, k, c)."""
    chain: list[Tensor]
    """Readers of the tensor features before each layer up to this one, first the first; (u, n, a) each."""
    read: list[Tensor]
    """What reading the scalars left (`edges.Edges.read_scalars`)."""
    entering: list[Tensor]
    """What entered each nonlinearity of its network (z, …)."""


class FoldedLayer(torch.nn.Module):
    """One layer: scalars are read from the tensor track, a network follows, its outputs go to all that read them."""

    contraction: Tensor

    def __init__(self, operator: AtomOperator, mlp: torch.nn.Sequential, nonlinearity: str, later: Tensor) -> None:
        """later: from the network's last hidden features to the next environment and later networks, (h, o)."""
        super().__init__()
        weights = dense_weights(mlp)
        dtype = operator.weight.dtype
        self.n_channels = operator.n_channels
        self.dim_out = operator.dim_out
        contraction = (operator.weight.detach().double() @ operator.table.double()).to(dtype)
        contraction = contraction.view(contraction.shape[0], operator.dim_environment, -1)
        self.register_buffer("contraction", contraction.expand(self.n_channels, -1, -1).contiguous(), persistent=False)
        self.read = Linear(weights[0][-self.n_channels :], dtype)
        self.hidden = HiddenLayers(weights[1:-1], nonlinearity, len(weights) == 1, dtype)
        self.later = Linear(later, dtype)
        self.width = weights[0].shape[1]

    def put(self, operator: AtomOperator, weights: list[Tensor], later: Tensor) -> None:
        """Take other weights, with their graph. weights: of the network, (i, o)."""
        contraction = (operator.weight @ operator.table).view(-1, *self.contraction.shape[1:])
        self.contraction = contraction.expand(self.n_channels, -1, -1)
        self.read.put(weights[0][-self.n_channels :])
        self.hidden.put(weights[1:-1])
        self.later.put(later)

    def matrices(self, environment: Tensor) -> Tensor:
        """environment: (n, m, u). Returns T (u, n, a, b), see `operators.AtomOperator`."""
        matrices = torch.bmm(environment.permute(2, 0, 1).contiguous(), self.contraction)
        return matrices.view(self.n_channels, environment.shape[0], -1, self.dim_out)

    def matrices_gradient(self, grad: Tensor) -> Tensor:
        """grad: (u, n, a, b). Returns the derivative for the environment (n, m, u)."""
        return torch.bmm(grad.flatten(2), self.contraction.transpose(1, 2)).permute(1, 2, 0)


class FoldedAllegro(torch.nn.Module):
    """Energies of atoms and their derivatives for the edge vectors; no part of it is trained."""

    inverse_cutoffs: Tensor
    edge_norm: Tensor
    energy_norm: Tensor
    shifts: Tensor

    def __init__(self, model: Allegro, tabulate: bool = False, kernels: bool = False) -> None:
        """tabulate: splines for the two-body network, where they are as good (`two_body.table_of`); kernels: Triton."""
        super().__init__()
        config = model.config
        self.n_types = model.n_types
        self.n_channels = model.n_channels
        self.n_weights = (config.l_max + 1) * model.n_channels
        self.n_components = (config.l_max + 1) ** 2
        self.harmonics = EdgeHarmonics(model.harmonics)
        two_body, laters = fold(model)
        self.n_features = two_body.shape[1]
        table = table_of(model, two_body) if tabulate else None
        self.two_body = TwoBodyNetwork(model, two_body) if table is None else table
        self.edges = Edges(config.l_max, model.n_channels, model.dtype)
        if kernels:
            from openmm_allegro.triton_edges import TritonEdges, TritonTable

            self.edges = cast(Edges, TritonEdges())  # of the same methods
            self.two_body = self.two_body if table is None else cast(TwoBodyTable, TritonTable(table))
        operators = cast(ModulesOf[AtomOperator], model.operators)
        latents = cast(ModulesOf[torch.nn.Sequential], model.latents)
        mlps = zip(operators, latents, laters, strict=True)
        layers = [FoldedLayer(op, mlp, config.allegro_mlp_nonlinearity, later) for op, mlp, later in mlps]
        self.layers = cast(ModulesOf[FoldedLayer], torch.nn.ModuleList(layers))
        self.layers_backwards = cast(ModulesOf[FoldedLayer], torch.nn.ModuleList(reversed(layers)))
        readout = dense_weights(model.readout)
        self.readout = HiddenLayers(readout[1:-1], config.readout_mlp_nonlinearity, len(readout) == 1, model.dtype)
        last = readout[-1] if len(readout) > 1 else torch.ones((1, 1), dtype=torch.float64)
        self.last = Linear(last, model.dtype)
        self.repulsion = model.repulsion
        self.register_buffer("inverse_cutoffs", model.inverse_cutoffs, persistent=False)
        self.register_buffer("edge_norm", model.sum_norm, persistent=False)
        energy_norm = model.scales.detach() * model.sum_norm.to(torch.float64) / math.sqrt(2.0)
        self.register_buffer("energy_norm", energy_norm, persistent=False)
        self.register_buffer("shifts", model.shifts.detach(), persistent=False)

    def follow(self, model: Allegro) -> None:
        """Take the weights that the model has now, with their graph: what `forward` returns can be differentiated.

        Only for a model that is not tabulated.
        """
        assert isinstance(self.two_body, TwoBodyNetwork)
        two_body, laters = fold(model, live_weights)
        self.two_body.put(model, two_body)
        operators = cast(ModulesOf[AtomOperator], model.operators)
        latents = cast(ModulesOf[torch.nn.Sequential], model.latents)
        for layer, operator, mlp, later in zip(self.layers, operators, latents, laters, strict=True):
            layer.put(operator, live_weights(mlp), later)
        readout = live_weights(model.readout)
        self.readout.put(readout[1:-1])
        if len(readout) > 1:
            self.last.put(readout[-1])
        self.energy_norm = model.scales * (model.sum_norm.to(torch.float64) / math.sqrt(2.0))
        self.shifts = model.shifts

    def forward(self, edge_vectors: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and gradient.

        Parameters
        ----------
        edge_vectors
            (n, k, 3) from centre to neighbour [Å]; padding entries are longer than the cutoff. In float64 their lengths
            stay so until they are features: the steepest Bessel function magnifies rounding 25 times.
        centre_types, neighbour_types
            Type indices, (n,) and (n, k).

        Returns
        -------
        tuple
            energy of each atom (n,) float64 [eV]; derivative of their sum for the edge vectors (n, k, 3) [eV/Å], in
            the model's precision.
        """
        n, k = neighbour_types.shape
        dtype = self.edge_norm.dtype
        if k == 0:
            return self.shifts[centre_types], torch.zeros_like(edge_vectors, dtype=dtype)
        vectors = edge_vectors.detach().permute(2, 0, 1).reshape(3, -1)
        r = (vectors[0] * vectors[0] + vectors[1] * vectors[1] + vectors[2] * vectors[2]).sqrt()
        unit = (vectors / r).to(dtype)
        inverse_cutoffs = self.inverse_cutoffs[centre_types.unsqueeze(1) * self.n_types + neighbour_types]
        x = r.view(n, k) * inverse_cutoffs.to(r.dtype)
        r = r.to(dtype)
        orders = self.harmonics(unit)
        harmonics = torch.cat(orders).view(-1, n, k).transpose(0, 1).contiguous()
        features, kept, also_kept = self.two_body(x, centre_types, neighbour_types)

        learnt, grad_harmonics, grad_features = self.track(harmonics, features, centre_types)
        energies = self.shifts[centre_types] + learnt
        grad_x = self.two_body.gradient(grad_features, kept, also_kept)
        grad_components = grad_harmonics.transpose(0, 1).flatten(1)
        grad_unit = self.harmonics.gradient(grad_components, orders, unit)
        grad_r = (grad_x * inverse_cutoffs.to(dtype)).flatten()
        if self.repulsion is not None:
            x = x.to(dtype)
            pairs = self.repulsion(r.view(n, k), x, centre_types, neighbour_types)
            energies = energies + pairs.sum(1).to(torch.float64)
            grad_r = grad_r + self.repulsion.slope(r.view(n, k), x, centre_types, neighbour_types).flatten()
        along = (grad_unit * unit).sum(0)
        gradient = (grad_unit - unit * along) / r + unit * grad_r
        return energies, gradient.view(3, n, k).permute(1, 2, 0)

    def track(self, harmonics: Tensor, features: Tensor, centre_types: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The layers and the readout, there and back.

        harmonics: (n, m, k); features: what the two-body part gives each edge (z, …): weights of the first tensors,
        of the first environment, and what enters each network. Returns the energies without shifts (n,) float64,
        and the derivatives of their sum for both.
        """
        n, _, k = harmonics.shape
        norm = self.edge_norm[centre_types].view(n, 1, 1)
        n_waiting = features.shape[1] - 2 * self.n_weights  # of what enters the networks that are still to come
        first, weights, waiting = torch.split(features, [self.n_weights, self.n_weights, n_waiting], 1)
        first, weights = first.view(n, k, self.n_weights), weights.view(n, k, self.n_weights)
        matrices: list[Tensor] = []
        passed: list[Passed] = []
        for layer in self.layers:
            environment = self.edges.sum_environment(harmonics, weights) * norm
            matrices.append(layer.matrices(environment))
            chain = telescope(matrices)
            scalars, read = self.edges.read_scalars(harmonics, first, chain[0].permute(1, 2, 0))
            now, waiting = torch.split(waiting, [layer.width, waiting.shape[1] - layer.width], 1)
            hidden, entering = layer.hidden(layer.read(scalars.flatten(0, 1)).add_(now))
            passed.append(Passed(weights, chain, read, entering))
            later = layer.later(hidden)
            n_next = later.shape[1] - waiting.shape[1]  # none after the last layer
            weights, more = torch.split(later, [n_next, waiting.shape[1]], 1)
            weights, waiting = weights.view(n, k, n_next), more + waiting
        hidden, entering = self.readout(waiting)
        scale = self.energy_norm[centre_types]
        learnt = self.last(hidden).view(n, k).sum(1).to(torch.float64) * scale

        grad_hidden = scale.to(harmonics.dtype).view(n, 1, 1).expand(n, k, 1).reshape(n * k, 1) * self.last.weight
        grad_waiting = self.readout.gradient(grad_hidden, entering)
        grad_later = grad_waiting  # of the next environment's weights, if there is one, and what waits
        grad_harmonics = torch.zeros_like(harmonics)
        grad_first = torch.zeros((0,), dtype=harmonics.dtype, device=harmonics.device)
        grad_matrices: list[Tensor] = []
        index = len(matrices)
        for layer in self.layers_backwards:
            index -= 1
            own = passed[index]
            grad_entering = layer.hidden.gradient(layer.later.gradient(grad_later), own.entering)
            grad_scalars = layer.read.gradient(grad_entering).view(n, k, self.n_channels)
            grad_first, grad_readers = self.edges.read_scalars_gradient(
                grad_scalars, harmonics, first, own.read, grad_harmonics, grad_first
            )
            grad_reader = grad_readers.permute(2, 0, 1)
            grad_matrices = telescope_gradient(grad_reader, matrices[: index + 1], own.chain, grad_matrices)
            grad_environment = layer.matrices_gradient(grad_matrices[index]) * norm
            grad_weights = self.edges.sum_environment_gradient(grad_environment, harmonics, own.weights, grad_harmonics)
            grad_waiting = torch.cat([grad_entering, grad_waiting], dim=1)
            grad_later = torch.cat([grad_weights.flatten(0, 1), grad_waiting], dim=1)
        return learnt, grad_harmonics, torch.cat([grad_first.flatten(0, 1), grad_later], dim=1)


def telescope(matrices: list[Tensor]) -> list[Tensor]:
    """Readers of the tensor features before each layer: T^j ⋯ T^{L-1} t^L, t the 0e column of T^L.

    matrices: T of each layer so far, (u, n, a, b). Returns for each of these layers (u, n, a).
    """
    chain = [matrices[-1][:, :, :, 0]]
    for layer in range(len(matrices) - 2, -1, -1):
        chain.insert(0, (matrices[layer] * chain[0].unsqueeze(2)).sum(3))
    return chain


def telescope_gradient(
    grad: Tensor, matrices: list[Tensor], chain: list[Tensor], grad_matrices: list[Tensor]
) -> list[Tensor]:
    """Add to the derivatives for the matrices of each layer what comes from the first reader of a chain.

    grad: derivative for chain[0] (u, n, a); matrices: T up to the layer that the chain begins at; grad_matrices:
    of all layers, empty before the first call.
    """
    first_call = len(grad_matrices) == 0
    last = len(matrices) - 1
    for layer in range(last):
        outer = grad.unsqueeze(3) * chain[layer + 1].unsqueeze(2)
        if first_call:
            grad_matrices.append(outer)
        else:
            grad_matrices[layer].add_(outer)
        grad = (matrices[layer] * grad.unsqueeze(3)).sum(2)
    if first_call:
        grad_matrices.append(grad.unsqueeze(3))
    else:
        grad_matrices[last].select(3, 0).add_(grad)
    return grad_matrices


def fold(model: Allegro, weights_of: WeightsOf = dense_weights) -> tuple[Tensor, list[Tensor]]:
    """Multiply maps that follow each other.

    weights_of: gives the linear maps of a network. Returns the map from the two-body network's last hidden features to
    all that reads them (h, o): weights of the first tensors, of the first environment, then what enters each network;
    and the like for each layer's network.
    """
    n_scalars = model.n_scalars
    latents = cast(ModulesOf[torch.nn.Sequential], model.latents)
    entrances = [weights_of(mlp)[0] for mlp in [*latents, model.readout]]
    two_body = weights_of(model.two_body_mlp)[-1]
    latent = two_body @ weights_of(model.first_latent)[0]
    scalars = latent[:, :n_scalars]
    maps = [two_body @ weights_of(model.first_tensors)[0], latent[:, n_scalars:]]
    first = torch.cat(maps + [scalars @ entrance[:n_scalars] for entrance in entrances], dim=1)
    laters: list[Tensor] = []
    for index, mlp in enumerate(latents):
        weights = weights_of(mlp)
        last = weights[-1] if len(weights) > 1 else torch.eye(weights[0].shape[1]).to(weights[0])
        rows = slice((index + 1) * n_scalars, (index + 2) * n_scalars)
        scalars = last[:, :n_scalars]
        later = [scalars @ entrance[rows] for entrance in entrances[index + 1 :]]
        laters.append(torch.cat([last[:, n_scalars:], *later], dim=1))
    return first, laters
