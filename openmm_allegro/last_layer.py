"""The last linear map of a model: what it reads from each atom, and models that differ in nothing else.

Symbols used in this file
    n  centre atoms     k  neighbour slots     h  features that the map reads
"""

import copy
import math
from typing import TypeVar, cast

import torch
from torch import Tensor
from torch.nn import Parameter

from openmm_allegro.mlp import ScaledLinear
from openmm_allegro.model import Allegro

Module = TypeVar("Module", bound=torch.nn.Module)


def last_linear(model: Allegro) -> ScaledLinear:
    """The map from the readout's last hidden features to an edge's energy."""
    return cast(ScaledLinear, model.readout[-1])


def last_weights(model: Allegro) -> Tensor:
    """Weights of that map with its factor, (h,) float64: the energies are features · weights + what is fixed."""
    last = last_linear(model)
    return last.weight.detach().to(torch.float64).flatten() * last.scale


def with_last_weights(model: Allegro, weights: Tensor) -> Allegro:
    """A model that shares every tensor with the given one but these weights (h,), in the sense of `last_weights`."""
    return with_last_parameter(model, (weights / last_linear(model).scale).unsqueeze(1))


def with_last_parameter(model: Allegro, weight: Tensor) -> Allegro:
    """The same from the weights as the map keeps them, (h, 1)."""
    variant = sharing_copy(model)
    last = last_linear(variant)
    last.weight = Parameter(weight.to(last.weight), last.weight.requires_grad)
    return variant


def sharing_copy(module: Module) -> Module:
    """A copy of a module and all that it consists of, except for the tensors, which are those of the original."""
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(module, cast(dict, tensors))


def last_features(model: Allegro, edge_vectors: Tensor, centre_types: Tensor, neighbour_types: Tensor) -> Tensor:
    """What the last map reads, summed over an atom's edges with all that multiplies it afterwards.

    Arguments as in `Allegro.forward`. Returns (n, h) float64 [eV]: an atom's learnt energy is its product with
    `last_weights`.
    """
    read: list[Tensor] = []

    def keep(module: torch.nn.Module, arguments: tuple[Tensor]) -> None:
        read.append(arguments[0])  # (n, k, h)

    handle = last_linear(model).register_forward_pre_hook(keep)
    try:
        model(edge_vectors, centre_types, neighbour_types)
    finally:
        handle.remove()
    norm = model.scales.detach() * model.sum_norm.to(torch.float64) / math.sqrt(2.0)
    return read[0].sum(1).to(torch.float64) * norm[centre_types].unsqueeze(1)
