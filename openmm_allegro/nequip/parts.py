"""Hyperparameters of nequip-allegro, read off a network that says how it is built.

A network is a TorchScript module, or `package.Saved` from a package; both hand out attributes, tensors and
parts by name. Parts are named as nequip-allegro 0.5-0.8 names them.
"""

import math

import torch
from torch import Tensor

from openmm_allegro import units
from openmm_allegro.config import AllegroConfig
from openmm_allegro.nequip.options import checked_config
from openmm_allegro.nequip.package import Saved

Network = torch.jit.ScriptModule | Saved

PARTS = {
    "edge_norm": "EdgeLengthNormalizer",
    "radial_chemical_embed": "SequentialGraphNetwork TwoBodySplineScalarEmbed",
    "scalar_embed_mlp": "ScalarMLP",
    "tensor_embed": "TwoBodySphericalHarmonicTensorEmbed",
    "allegro": "Allegro_Module",
    "edge_readout": "ScalarMLP",
    "edge_eng_sum": "EdgewiseReduce",
    "per_type_energy_scale_shift": "PerTypeScaleShift",
    "cutoff": "AddRadialCutoffToData",
    "pair_potential": "ZBL",
    "total_energy_sum": "AtomwiseReduce",
}
"""What a model is a sequence of, and the classes that each may be."""
OPTIONAL = ("cutoff", "pair_potential")
NONLINEARITIES = {"SiLU": "silu", "Mish": "mish", "GELU": "gelu"}


def children(network: Network) -> dict[str, Network]:
    """Its parts by name."""
    found: dict[str, Network] = {}
    for name, part in network.named_children():
        assert isinstance(part, torch.jit.ScriptModule | Saved)
        found[name] = part
    return found


def kind(network: Network) -> str:
    """The class that it was made from."""
    return network.kind if isinstance(network, Saved) else str(network.original_name)


def allegro_parts(network: Network) -> dict[str, Network] | None:
    """The parts of an Allegro model by name; None when it is another model."""
    parts = children(network)
    while "allegro" not in parts:
        inner = [parts[name] for name in ("sole_model", "model", "func") if name in parts]
        if len(inner) != 1:
            return None
        parts = children(inner[0])
    return parts


def config_of_parts(parts: dict[str, Network], source: str) -> AllegroConfig:
    """Our configuration of the model of these parts.

    Raises ValueError naming the part or option that cannot be had here; `source` names the file.
    """
    for name, part in parts.items():
        if kind(part) not in PARTS.get(name, "").split():
            raise ValueError(f"{source} has a part `{name}` of class {kind(part)}, which this package does not have")
    missing = [name for name in PARTS if name not in parts and name not in OPTIONAL]
    if missing:
        raise ValueError(f"{source} has no part `{missing[0]}`; it is no model of nequip-allegro 0.5 to 0.8")
    names = [str(name) for name in parts["per_type_energy_scale_shift"].type_names]
    fields: dict[str, object] = {"type_names": names}
    fields |= _cutoffs(parts["edge_norm"], names)
    fields |= _embedding(parts["radial_chemical_embed"], source)
    fields |= _mlp(parts["scalar_embed_mlp"].mlp_module, "scalar_embed", source)
    fields |= _layers(parts["allegro"], source)
    fields |= _mlp(parts["edge_readout"].mlp_module, "readout", source)
    fields["avg_num_neighbors"] = _neighbours(parts, names, source)
    fields |= _energies(parts["per_type_energy_scale_shift"], names)
    if "pair_potential" in parts:
        fields |= _zbl(parts, names, source)
    return checked_config(fields, source)


def _cutoffs(norm: Network, names: list[str]) -> dict[str, object]:
    r_max = float(norm.r_max)
    inverse = norm._rmax_recip.to(torch.float64).flatten().tolist()
    if len(inverse) == 1:
        return {"r_max": r_max}
    rows = [inverse[start : start + len(names)] for start in range(0, len(inverse), len(names))]
    table = {
        centre: {name: min(r_max, float(f"{1 / value:.14g}")) for name, value in zip(names, row, strict=True)}
        for centre, row in zip(names, rows, strict=True)
    }
    return {"r_max": r_max, "per_edge_type_cutoff": table}


def _embedding(embed: Network, source: str) -> dict[str, object]:
    parts = children(embed)
    if "spline" in parts:
        spline = parts["spline"]
        return {
            "radial_chemical_embed": "spline",
            "radial_chemical_embed_dim": int(spline.num_channels),
            "num_splines": int(spline.num_splines),
            "spline_span": int(spline.spline_span),
        }
    if set(parts) != {"bessel_encode", "type_embed"}:
        raise ValueError(f"{source} has an embedding of {', '.join(parts)}, which this package does not have")
    bessel = parts["bessel_encode"]
    return {
        "radial_chemical_embed": "bessel",
        "radial_chemical_embed_dim": 2 * int(parts["type_embed"].center_embed.weight.shape[1]),
        "num_bessels": bessel.bessel_weights.numel(),
        "bessel_trainable": "bessel_weights" in dict(bessel.named_parameters()),
        "polynomial_cutoff_p": _power(bessel.cutoff, "polynomial_cutoff_p", source),
    }


def _power(cutoff: Network, name: str, source: str) -> int:
    power = float(cutoff.p)
    if power != int(power):
        raise ValueError(f"{source} was made with `{name}` = {power}, but this package has whole numbers only")
    return int(power)


def _mlp(mlp: Network, name: str, source: str) -> dict[str, object]:
    """Hidden layers of a dense network; dims: widths from the input to the output."""
    dims = [int(width) for width in mlp.dims]
    layers = children(mlp.mlp)
    used = {kind(layer) for layer in layers.values()} - {"ScalarLinearLayer", "ParameterList"}
    if bool(mlp.bias):
        raise ValueError(f"{source} has biases in `{name}_mlp`, which this package does not have")
    if not used <= set(NONLINEARITIES):
        raise ValueError(
            f"{source} has {', '.join(sorted(used))} in `{name}_mlp`; known are {', '.join(NONLINEARITIES)}"
        )
    first = layers.get("0")
    if first is not None and kind(first) == "ScalarLinearLayer":
        gain = math.sqrt(dims[0]) * float(first.alpha)
        if abs(gain - 1) > 1e-5:  # rounding of float32
            raise ValueError(
                f"{source} was made with `forward_normalize` = False, which this package does not have: the weights "
                f"of `{name}_mlp` are scaled by {gain:.4g} where 1 is expected"
            )
    found: dict[str, object] = {f"{name}_mlp_hidden_layers_depth": len(dims) - 2}
    if len(dims) > 2:
        found[f"{name}_mlp_hidden_layers_width"] = dims[1]
        found[f"{name}_mlp_nonlinearity"] = NONLINEARITIES[used.pop()] if used else "none"
    return found


def _layers(allegro: Network, source: str) -> dict[str, object]:
    if bool(getattr(allegro, "scatter_features", False)):
        raise ValueError(f"{source} was made with `scatter_features` = True, which this package does not have")
    components, irreps = allegro._env_weighter._rtoi.shape[1], allegro._env_weighter._rtoi.shape[0]
    l_max = math.isqrt(int(components)) - 1
    if int(irreps) != l_max + 1:
        raise ValueError(f"{source} was made with `weight_individual_irreps` = False, which this package does not have")
    operators = list(children(allegro.tps).values())
    latents = list(children(allegro.latents).values())
    track = {(int(order), int(parity)) for _, (order, parity) in allegro.tensor_track_allowed_irreps}
    harmonics = {(order, (-1) ** order) for order in range(l_max + 1)}
    both = harmonics | {(order, -parity) for order, parity in harmonics}
    if track not in (harmonics, both):
        raise ValueError(f"{source} has a tensor track of the irreps {sorted(track)}, which this package does not have")
    return {
        "l_max": l_max,
        "parity": track == both,
        "num_layers": len(operators),
        "num_scalar_features": int(allegro.num_scalar_features),
        "num_tensor_features": int(allegro.num_tensor_features),
        "tp_path_channel_coupling": operators[0].weights.dim() == 2,
        **_mlp(latents[0], "allegro", source),
    }


def _neighbours(parts: dict[str, Network], names: list[str], source: str) -> object:
    """Mean neighbours, from the norms of sums over neighbours: buffers from 0.8.1 on, plain numbers before."""
    total, allegro = parts["edge_eng_sum"], parts["allegro"]
    if "norm_module" in children(total):
        norms, of_layers = total.norm_module.norm_const, [allegro.avg_num_neighbors_norm.norm_const]
    else:
        norms = torch.tensor([float(total._factor) * math.sqrt(2.0)], dtype=torch.float64)
        factors = [float(operator.scatter_factor) for operator in children(allegro.tps).values()]
        of_layers = [torch.tensor([factor], dtype=torch.float64) for factor in factors]
    for other in of_layers:
        if not torch.allclose(other.flatten(), norms.flatten(), rtol=1e-6):
            raise ValueError(f"{source} has other `avg_num_neighbors` in its layers than in the sum of its energies")
    found = [_plainest(norm) for norm in norms.flatten()]
    return found[0] if len(found) == 1 else dict(zip(names, found, strict=True))


def _plainest(norm: Tensor) -> float:
    """The shortest number whose inverse square root is this, () of the file's dtype."""
    exact = float(norm) ** -2
    tolerance = 2 * torch.finfo(norm.dtype).eps
    for digits in range(1, 17):
        plain = float(f"{exact:.{digits}g}")
        if abs(plain / exact - 1) <= tolerance:
            return plain
    return exact


def _energies(scale_shift: Network, names: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in ("scales", "shifts"):
        values = getattr(scale_shift, name).flatten().tolist()
        if values:
            table = values * len(names) if len(values) == 1 else values
            found[f"per_type_energy_{name}"] = dict(zip(names, table, strict=True))
            found[f"per_type_energy_{name}_trainable"] = bool(getattr(scale_shift, f"{name}_trainable"))
    return found


def _zbl(parts: dict[str, Network], names: list[str], source: str) -> dict[str, object]:
    """The repulsion; before nequip 0.17 it took the envelope of the Bessel basis, or else that of `cutoff`."""
    zbl = parts["pair_potential"]
    half_coulomb = float(zbl._qqr2exesquare)
    if abs(2 * half_coulomb / units.COULOMB_EV_ANGSTROM - 1) > 1e-6:
        raise ValueError(
            f"{source} was made with `pair_potential.units` other than metal (e²/4πε₀ is {2 * half_coulomb:.6g}), "
            "which this package does not have"
        )
    if "cutoff" in children(zbl):
        cutoff = zbl.cutoff
    elif "cutoff" in parts:
        cutoff = parts["cutoff"].cutoff
    else:
        cutoff = parts["radial_chemical_embed"].bessel_encode.cutoff
    numbers = [int(number) for number in zbl.atomic_numbers]
    power = _power(cutoff, "pair_potential.polynomial_cutoff_p", source)
    config = {"type_names": names, "r_max": 1.0, "avg_num_neighbors": 1.0}
    if tuple(numbers) != checked_config(config, source).atomic_numbers:
        raise ValueError(f"{source} has a repulsion of the elements {numbers}, which are not its types {names}")
    return {"zbl": True, "zbl_polynomial_cutoff_p": power}
