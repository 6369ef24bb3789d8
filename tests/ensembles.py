"""What tests of ensembles share: members trained apart, in place of which random ones serve, and mirrored ones."""

import torch
from conftest import small_model

from openmm_allegro.ensemble import Ensemble, Factors, mirrored_ensemble


def deep_ensemble(dtype: torch.dtype = torch.float64, factors: Factors | None = None, **options: object) -> Ensemble:
    """Three models; the last has another architecture."""
    models = [small_model(dtype, seed, **options) for seed in (1, 2)]
    return Ensemble([*models, small_model(dtype, 3, num_layers=1, l_max=1, **options)], factors)


def last_layer_ensemble(
    dtype: torch.dtype = torch.float64, pairs: int = 3, factors: Factors | None = None, **options: object
) -> Ensemble:
    """Members whose last layer deviates at random by a tenth."""
    centre = small_model(dtype, **options)
    n_features = len(centre.readout[-1].weight)
    generator = torch.Generator().manual_seed(5)
    return mirrored_ensemble(
        centre, 0.1 * torch.randn((pairs, n_features), dtype=torch.float64, generator=generator), factors
    )
