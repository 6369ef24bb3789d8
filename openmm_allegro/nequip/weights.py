"""Models trained with nequip-allegro: their weights, as a model of ours."""

import torch
from torch import Tensor

from openmm_allegro.model import Allegro


def copy_nequip_weights(source: torch.nn.Module, model: Allegro) -> None:
    """Give `model` the weights of a nequip-allegro 0.6-0.8 model of the same hyperparameters.

    source: the network that nequip builds or loads from a checkpoint. Raises ValueError when the two differ in their
    weights; that cutoffs, types and nonlinearities are the same is for the caller to see to.
    """
    copy_named_weights(dict(source.named_parameters()) | dict(source.named_buffers()), model)


def copy_named_weights(tensors: dict[str, Tensor], model: Allegro) -> None:
    """The same from tensors under the names that they have in nequip's network."""
    theirs = {name.split("model.")[-1].removeprefix("func."): tensor for name, tensor in tensors.items()}
    try:
        found = _by_our_names(theirs, model)
    except KeyError as error:
        raise ValueError(
            f"the model to convert has no weight {error}; give both models the same hyperparameters"
        ) from error
    with torch.no_grad():
        for name, tensor in found.items():
            parameter = model.get_parameter(name)
            if parameter.numel() != tensor.numel():
                raise ValueError(
                    f"the model to convert has a weight of shape {tuple(tensor.shape)} where ours, {name}, has "
                    f"{tuple(parameter.shape)}; give both the same hyperparameters"
                )
            parameter.copy_(tensor.reshape(parameter.shape))


def _by_our_names(theirs: dict[str, Tensor], model: Allegro) -> dict[str, Tensor]:
    """Their tensors under the names of our parameters."""
    found = _two_body(theirs, model)
    found |= _mlp(theirs, "scalar_embed_mlp.mlp_module.mlp", model, "two_body_mlp")
    found |= _mlp(theirs, "tensor_embed.env_embed_linear.mlp", model, "first_tensors", n_before=0)
    first, n_scalars = "allegro.first_layer_env_embed_projection.mlp", model.n_scalars
    found |= _mlp(theirs, first, model, "first_latent", n_before=n_scalars)
    for layer in range(model.n_layers):
        found[f"operators.{layer}.weight"] = theirs[f"allegro.tps.{layer}.weights"]
        found |= _mlp(theirs, f"allegro.latents.{layer}.mlp", model, f"latents.{layer}", n_before=n_scalars)
    found |= _mlp(theirs, "edge_readout.mlp_module.mlp", model, "readout")
    for name in ("scales", "shifts"):
        values = theirs.get(f"per_type_energy_scale_shift.{name}")
        if values is not None and values.numel() > 0:
            found[name] = values.flatten().expand(model.n_types)
    return found


def _two_body(theirs: dict[str, Tensor], model: Allegro) -> dict[str, Tensor]:
    """The radial embedding."""
    if model.config.radial_chemical_embed == "spline":
        return {"two_body.coefficients.weight": theirs["radial_chemical_embed.spline.class_embed.weight"]}
    embed = "radial_chemical_embed.type_embed."
    return {
        "two_body.frequencies": theirs["radial_chemical_embed.bessel_encode.bessel_weights"],
        "two_body.centre_embed.weight": theirs[embed + "center_embed.weight"],
        "two_body.neighbour_embed.weight": theirs[embed + "neighbor_embed.weight"],
        "two_body.basis_linear.weight": theirs[embed + "basis_linear.mlp.0.weight"],
    }


def _mlp(
    theirs: dict[str, Tensor], their_name: str, model: Allegro, our_name: str, n_before: int | None = None
) -> dict[str, Tensor]:
    """Weights of a dense network.

    nequip keeps those of a network without nonlinearity in a list of another name. n_before: when given, the last
    layer's columns beyond these weigh harmonics, as (channel, order) in nequip and as (order, channel) here.
    """
    ours = [name for name, _ in model.named_parameters() if name.startswith(f"{our_name}.")]
    if f"{their_name}.weights.0" in theirs:
        found = {name: theirs[f"{their_name}.weights.{index}"] for index, name in enumerate(ours)}
    else:
        found = {name: theirs[their_name + name.removeprefix(our_name)] for name in ours}
    last = found[ours[-1]]
    if n_before is not None and last.shape == model.get_parameter(ours[-1]).shape:  # else it is refused by the caller
        weights = last[:, n_before:].unflatten(1, (-1, model.config.l_max + 1)).transpose(1, 2).flatten(1)
        found[ours[-1]] = torch.cat((last[:, :n_before], weights), dim=1)
    return found
