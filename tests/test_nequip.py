"""The same weights give the same numbers as the nequip-allegro package."""

import itertools
import warnings
from collections.abc import Iterator

import pytest
import torch
from conftest import random_atoms, small_config

from openmm_allegro.model import Allegro
from openmm_allegro.nequip.weights import copy_nequip_weights
from openmm_allegro.potential import Potential

allegro = pytest.importorskip("allegro.model", reason="nequip-allegro is not installed")

AXES = {
    "parity": (True, False),
    "tp_path_channel_coupling": (True, False),
    "radial_chemical_embed": ("bessel", "spline"),
    "per_edge_type_cutoff": (None, {"H": {"O": 3.0}, "O": 3.5}),
    "zbl": (False, True),
}
GRID = [dict(zip(AXES, values, strict=True)) for values in itertools.product(*AXES.values())]

OTHERS = [
    {"avg_num_neighbors": {"H": 9.0, "O": 14.0}, "num_layers": 2},
    {"scalar_embed_mlp_hidden_layers_depth": 0, "readout_mlp_hidden_layers_depth": 2},
    {"allegro_mlp_nonlinearity": "none", "allegro_mlp_hidden_layers_depth": 2, "readout_mlp_nonlinearity": "none"},
    {"scalar_embed_mlp_nonlinearity": "mish", "readout_mlp_nonlinearity": "gelu", "radial_chemical_embed_dim": 6},
    {"per_type_energy_shifts": {"H": -13.6, "O": -2041.0}, "per_type_energy_scales": {"H": 0.7, "O": 2.1}},
]


@pytest.fixture(scope="module", autouse=True)
def _nequip_state() -> Iterator[None]:
    """Nequip changes the default dtype of the process; put it back afterwards."""
    from nequip.utils.global_state import set_global_state

    before = torch.get_default_dtype()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        set_global_state()
        torch.set_default_dtype(torch.float64)  # which it does at its first call in a process only
        yield
    torch.set_default_dtype(before)


def nequip_model(config) -> torch.nn.Module:
    """The model of these options as nequip-allegro builds it, with its random weights, in float64."""
    options = config.model_dump()
    embed = options.pop("radial_chemical_embed")
    spline = {"num_splines": options.pop("num_splines"), "spline_span": options.pop("spline_span")}
    bessel = {key: options.pop(key) for key in ("num_bessels", "bessel_trainable", "polynomial_cutoff_p")}
    names = {"bessel": ("TwoBodyBesselScalarEmbed", bessel), "spline": ("TwoBodySplineScalarEmbed", spline)}
    options["radial_chemical_embed"] = {"_target_": f"allegro.nn.{names[embed][0]}", **names[embed][1]}
    zbl, power = options.pop("zbl"), options.pop("zbl_polynomial_cutoff_p")
    if zbl:
        options["pair_potential"] = {
            "_target_": "nequip.nn.pair_potential.ZBL",
            "units": "metal",
            "chemical_species": list(config.type_names),
            "polynomial_cutoff_p": power,
        }
    for key in ("allegro", "scalar_embed", "readout"):
        if options[f"{key}_mlp_nonlinearity"] == "none":
            options[f"{key}_mlp_nonlinearity"] = None
    options["type_names"] = list(config.type_names)
    return allegro.AllegroModel(seed=1, model_dtype="float64", **options)


def largest_relative_difference(options: dict, n_atoms: int = 16) -> float:
    """Of energy, forces and virial between the two packages, each relative to its largest component."""
    from nequip.data import compute_neighborlist_, from_dict

    config = small_config(**options)
    theirs = nequip_model(config)
    ours = Allegro(config, torch.float64)
    copy_nequip_weights(theirs, ours)
    positions, cell, types = random_atoms(n_atoms, 5.5)
    data = from_dict({"pos": positions, "cell": cell, "pbc": torch.tensor([True] * 3), "atom_types": types})
    expected = theirs(compute_neighborlist_(data, r_max=config.r_max))
    energy, forces, virial = Potential(ours)(positions, cell, types)
    differences = []
    for value, reference in (
        (energy, expected["total_energy"].squeeze()),
        (forces, expected["forces"]),
        (virial, -expected["stress"][0] * torch.linalg.det(cell).abs()),
    ):
        assert reference.abs().max() > 1e-3, "the models must have something to say"
        differences.append(((value - reference).abs().max() / reference.abs().max()).item())
    return max(differences)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("l_max", [1, 2, 3])
def test_same_numbers_as_nequip_allegro_over_the_option_grid(l_max, num_layers):
    largest = {
        str(point): largest_relative_difference(point | {"l_max": l_max, "num_layers": num_layers}) for point in GRID
    }
    worst = max(largest, key=lambda point: largest[point])
    assert largest[worst] < 1e-10, worst  # float64, sums in another order


@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_same_numbers_as_nequip_allegro_for_other_options(options):
    assert largest_relative_difference(options) < 1e-10


def test_a_model_of_other_hyperparameters_is_refused():
    theirs = nequip_model(small_config())
    with pytest.raises(ValueError, match="give both the same hyperparameters"):
        copy_nequip_weights(theirs, Allegro(small_config(num_scalar_features=10), torch.float64))
    with pytest.raises(ValueError, match="has no weight .*; give both models the same hyperparameters"):
        copy_nequip_weights(theirs, Allegro(small_config(num_layers=3), torch.float64))
