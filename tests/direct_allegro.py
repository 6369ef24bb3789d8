"""Allegro by its direct formula: a tensor product on every edge, written out path by path. Slow and plain.

Symbols used in this file
    n  centre atoms    k  neighbour slots    u  tensor channels
"""

import torch
from e3nn import o3
from torch import Tensor

from openmm_allegro.model import Allegro

Features = dict[o3.Irrep, Tensor]
"""Tensor features of each edge: for each irrep (n, k, u, 2l + 1)."""


def direct_energies(model: Allegro, edge_vectors: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
    """Energies of atoms (n,) with the weights of `model`, by tensor products on edges."""
    config, u = model.config, model.n_channels
    r = edge_vectors.norm(dim=2)
    cutoffs = torch.tensor(config.pair_cutoffs(), dtype=model.dtype)
    x = r / cutoffs[centre_types[:, None], neighbour_types]
    harmonics = {
        o3.Irrep(order, (-1) ** order): o3.spherical_harmonics(
            order, edge_vectors, normalize=True, normalization="component"
        )
        for order in range(config.l_max + 1)
    }
    scalars = model.two_body_mlp(model.two_body(x, centre_types, neighbour_types))
    features = weigh(harmonics, model.first_tensors(scalars), u)
    latent = model.first_latent(scalars)
    neighbours = torch.tensor(config.by_type(config.avg_num_neighbors, 1.0), dtype=model.dtype)[centre_types]
    collected = [latent[..., : model.n_scalars]]
    for layer, mlp in enumerate(model.latents):
        edges = weigh(harmonics, latent[..., model.n_scalars :], u)
        environment = {ir: y.sum(1, keepdim=True) / neighbours.sqrt()[:, None, None, None] for ir, y in edges.items()}
        wanted = allowed_irreps(config.l_max, config.parity, last=layer == model.n_layers - 1)
        features = tensor_product(features, environment, wanted, model.operators[layer].weight, layer, model)
        latent = mlp(torch.cat([*collected, features[o3.Irrep("0e")][..., 0]], dim=2))
        collected.append(latent[..., : model.n_scalars])
    energies = model.readout(torch.cat(collected, dim=2)).sum((1, 2)) / (2 * neighbours).sqrt()
    energies = energies * model.scales[centre_types] + model.shifts[centre_types]
    if model.repulsion is not None:
        energies = energies + model.repulsion(r, x, centre_types, neighbour_types).sum(1)
    return energies


def weigh(harmonics: dict[o3.Irrep, Tensor], weights: Tensor, u: int) -> Features:
    """Each channel of each edge: a weight times the harmonics."""
    return {ir: weights[..., ir.l * u : (ir.l + 1) * u, None] * y[..., None, :] for ir, y in harmonics.items()}


def allowed_irreps(l_max: int, parity: bool, last: bool) -> list[o3.Irrep]:
    """Irreps a layer may produce."""
    if last:
        return [o3.Irrep("0e")]
    parities = (1, -1) if parity else (None,)
    return [o3.Irrep(order, p or (-1) ** order) for order in range(l_max + 1) for p in parities]


def reaches_scalar(ir: o3.Irrep, environment: list[o3.Irrep], wanted: list[list[o3.Irrep]]) -> bool:
    """Whether some chain of the remaining products leads from this irrep to a scalar."""
    if not wanted:
        return True
    outcomes = {out for env in environment for out in ir * env if out in wanted[0]}
    return any(reaches_scalar(out, environment, wanted[1:]) for out in outcomes)


def tensor_product(
    features: Features, environment: Features, wanted: list[o3.Irrep], weight: Tensor, layer: int, model: Allegro
) -> Features:
    """Σ over paths of W[u, p] CG_p(features, environment); paths in the order out, feature, environment."""
    config = model.config
    later = [
        allowed_irreps(config.l_max, config.parity, last=after == model.n_layers - 1)
        for after in range(layer + 1, model.n_layers)
    ]
    products: Features = {}
    path = 0
    for out in wanted:
        if not reaches_scalar(out, list(environment), later):
            continue
        for ir, x in features.items():
            for env, a in environment.items():
                if out in ir * env:
                    coefficients = o3.wigner_3j(ir.l, env.l, out.l, dtype=model.dtype) * out.dim**0.5
                    product = torch.einsum("nkua,nzum,amb->nkub", x, a, coefficients)
                    products[out] = products.get(out, 0.0) + weight[:, path, None] * product
                    path += 1
    assert path == weight.shape[1], "every weight belongs to one path"
    return products
