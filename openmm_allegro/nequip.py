"""Models trained with nequip-allegro: their weights, as a model of ours."""

from collections.abc import Iterator

import torch
from torch import Tensor

from openmm_allegro.model import Allegro


def copy_nequip_weights(source: torch.nn.Module, model: Allegro) -> None:
    """Give `model` the weights of a nequip-allegro 0.6-0.8 model of the same hyperparameters.

    source: the network that nequip builds or loads from a checkpoint. Raises ValueError when the two differ in shape.
    """
    names = dict(source.named_parameters()) | dict(source.named_buffers())
    found = {name.split("model.")[-1].removeprefix("func."): tensor for name, tensor in names.items()}
    with torch.no_grad():
        for parameter, tensor in _pairs(found, model):
            if parameter.numel() != tensor.numel():
                raise ValueError(
                    f"the model to convert has a weight of shape {tuple(tensor.shape)} where ours has "
                    f"{tuple(parameter.shape)}; give both the same hyperparameters"
                )
            parameter.copy_(tensor.reshape(parameter.shape))


def _pairs(found: dict[str, Tensor], model: Allegro) -> Iterator[tuple[Tensor, Tensor]]:
    """Each parameter of ours with the tensor that belongs there."""
    u, orders = model.n_channels, model.config.l_max + 1
    if model.config.radial_chemical_embed == "bessel":
        embed = "radial_chemical_embed."
        yield model.two_body.frequencies, found[embed + "bessel_encode.bessel_weights"]
        yield model.two_body.centre_embed.weight, found[embed + "type_embed.center_embed.weight"]
        yield model.two_body.neighbour_embed.weight, found[embed + "type_embed.neighbor_embed.weight"]
        yield model.two_body.basis_linear.weight, found[embed + "type_embed.basis_linear.mlp.0.weight"]
    else:
        yield model.two_body.coefficients.weight, found["radial_chemical_embed.spline.class_embed.weight"]
    yield from _mlp(found, "scalar_embed_mlp.mlp_module.", model.two_body_mlp)
    first = found["tensor_embed.env_embed_linear.mlp.0.weight"]
    yield model.first_tensors[0].weight, _by_order(first, 0, u, orders)
    first = found["allegro.first_layer_env_embed_projection.mlp.0.weight"]
    yield model.first_latent[0].weight, _by_order(first, model.n_scalars, u, orders)
    for layer, (operator, latent) in enumerate(zip(model.operators, model.latents, strict=True)):
        yield operator.weight, found[f"allegro.tps.{layer}.weights"]
        *hidden, last = _mlp(found, f"allegro.latents.{layer}.", latent)
        yield from hidden
        yield last[0], _by_order(last[1], model.n_scalars, u, orders)
    yield from _mlp(found, "edge_readout.mlp_module.", model.readout)
    for name, parameter in (("scales", model.scales), ("shifts", model.shifts)):
        values = found.get(f"per_type_energy_scale_shift.{name}")
        if values is not None and values.numel() > 0:
            yield parameter, values.flatten().expand(parameter.shape)


def _mlp(found: dict[str, Tensor], prefix: str, mlp: torch.nn.Sequential) -> list[tuple[Tensor, Tensor]]:
    """Weights of a dense network; nequip keeps those of a network without nonlinearity in a list of another name."""
    linear = [(index, layer) for index, layer in enumerate(mlp) if hasattr(layer, "weight")]
    if f"{prefix}mlp.weights.0" in found:
        return [(layer.weight, found[f"{prefix}mlp.weights.{n}"]) for n, (_, layer) in enumerate(linear)]
    return [(layer.weight, found[f"{prefix}mlp.{index}.weight"]) for index, layer in linear]


def _by_order(weight: Tensor, n_before: int, u: int, orders: int) -> Tensor:
    """Reorder columns that weight harmonics, (channel, order) in nequip, to (order, channel) as here."""
    before, weights = weight[:, :n_before], weight[:, n_before:]
    if weights.shape[1] == 0:
        return before
    weights = weights.reshape(-1, u, orders).transpose(1, 2).flatten(1)
    return torch.cat((before, weights), dim=1)
