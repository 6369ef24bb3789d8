"""What tests share: data that may be absent, small models, small systems."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from openmm_allegro.config import AllegroConfig
from openmm_allegro.model import Allegro

torch.set_num_threads(1)  # the systems are small, and tests may run beside each other

CIF = """data_sites
_cell_length_a 4.0
_cell_length_b 4.0
_cell_length_c 4.0
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_H-M_alt 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
{}
"""


@pytest.fixture(scope="session")
def ab_initio_data() -> Path:
    """Folder of published ab initio sets: `OPENMM_ALLEGRO_DATA`, else a folder `*/data` beside the checkout."""
    if "OPENMM_ALLEGRO_DATA" in os.environ:
        return Path(os.environ["OPENMM_ALLEGRO_DATA"])
    for acac in Path(__file__).parents[2].glob("*/data/acac"):
        return acac.parent
    pytest.skip("no published ab initio sets here; name their folder in OPENMM_ALLEGRO_DATA")


def small_config(**options: object) -> AllegroConfig:
    """A model of oxygen and hydrogen that is quick to evaluate."""
    defaults: dict[str, object] = {
        "type_names": ("H", "O"),
        "r_max": 4.0,
        "num_scalar_features": 8,
        "num_tensor_features": 4,
        "scalar_embed_mlp_hidden_layers_width": 16,
        "allegro_mlp_hidden_layers_width": 16,
        "readout_mlp_hidden_layers_width": 8,
        "avg_num_neighbors": 12.0,
    }
    return AllegroConfig.model_validate(defaults | options)


def small_model(dtype: torch.dtype = torch.float64, seed: int = 1, **options: object) -> Allegro:
    """That model with random weights."""
    torch.manual_seed(seed)
    return Allegro(small_config(**options), dtype)


def random_atoms(n_atoms: int, edge: float, seed: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positions (n, 3) [Å] on a jittered lattice, a triclinic cell (3, 3) [Å] of about that edge, and types (n,)."""
    generator = torch.Generator().manual_seed(seed)
    cell = edge * torch.tensor([[1.0, 0.0, 0.0], [0.2, 1.0, 0.0], [-0.1, 0.3, 1.1]], dtype=torch.float64)
    side = -(-round(n_atoms ** (1 / 3) * 1000) // 1000)
    grid = torch.cartesian_prod(*[torch.arange(side, dtype=torch.float64)] * 3)[:n_atoms] / side
    jitter = 0.3 / side * torch.rand((n_atoms, 3), dtype=torch.float64, generator=generator)
    types = torch.randint(0, 2, (n_atoms,), generator=generator)
    return (grid + jitter) @ cell, cell, types


@contextmanager
def full_disk(at_bytes: int) -> Iterator[None]:
    """Files cannot grow beyond this size; the error differs from that of a full disk in its number only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
