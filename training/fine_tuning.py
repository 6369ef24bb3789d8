"""Going on from a trained model: elements it does not know, energies of another level of theory, frozen parts.

Symbols used in this file
    f  frames        t  types        o  types of the model as it was
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from openmm_allegro.config import AllegroConfig
from openmm_allegro.model import Allegro
from openmm_allegro.options import checked
from openmm_allegro.training.batch import Batch, FrameDataset, ShuffledBatches
from openmm_allegro.training.frames import Array

FRAMES_LOOKED_AT = 200
"""Enough to see that energies have another zero."""
SPLINES_OF_PAIRS = "two_body.coefficients.weight"
"""The one tensor that has a row for each ordered pair of types."""


def new_types(model: Allegro, named: Sequence[str] | None) -> list[str]:
    """Elements that a model does not know, in a list which must have all that it knows; None names no others."""
    known = model.config.type_names
    forgotten = [name for name in known if named is not None and name not in named]
    if forgotten:
        raise ValueError(
            f"`model.type_names` lacks {', '.join(forgotten)}, which the model of `run.start_from` knows; "
            f"name {', '.join(known)} and the new elements, or leave it out"
        )
    return [name for name in named or [] if name not in known]


def with_types(model: Allegro, names: Sequence[str], scales: dict[str, float], neighbours: float) -> Allegro:
    """The same model with more elements; what it says of those it knew is the same to the last bit.

    The new elements begin with random embeddings and an atomic energy of zero, which `rebased` sets.
    scales: of the new elements [eV], used where the model has scales; neighbours: mean number of their neighbours,
    used where the model has one for each type.
    """
    old = model.config
    tables: dict[str, object] = {"type_names": (*old.type_names, *names)}
    if isinstance(old.avg_num_neighbors, dict):
        tables["avg_num_neighbors"] = old.avg_num_neighbors | dict.fromkeys(names, neighbours)
    if old.per_type_energy_scales is not None:
        tables["per_type_energy_scales"] = by_name(old, model.scales) | {name: scales[name] for name in names}
    tables["per_type_energy_shifts"] = by_name(old, model.shifts) | dict.fromkeys(names, 0.0)
    extended = Allegro(checked(old.model_dump() | tables, AllegroConfig, "model"), model.dtype)
    n_old, n_new = model.n_types, extended.n_types
    weights = extended.state_dict()
    for name, tensor in model.state_dict().items():
        if name == SPLINES_OF_PAIRS:
            weights[name].view(n_new, n_new, -1)[:n_old, :n_old] = tensor.view(n_old, n_old, -1)
        else:
            weights[name][: len(tensor)] = tensor  # only what has a row for each type has become longer
    return extended


def rebased(model: Allegro, shifts: dict[str, float]) -> None:
    """Give a model other energies of the free atoms [eV], for all of its types."""
    model.config = model.config.model_copy(update={"per_type_energy_shifts": dict(shifts)})
    with torch.no_grad():
        model.shifts.copy_(torch.tensor([shifts[name] for name in model.config.type_names], dtype=torch.float64))


def fitted_to_the_rest(model: Allegro, data: FrameDataset, names: Sequence[str], batch_size: int) -> dict[str, float]:
    """Energies of the free atoms [eV] that bring a model closest to some frames; those not named stay as they are.

    Least squares over what the model leaves of the energies, of smallest norm where compositions do not tell
    the elements apart: so the energies of the atoms move by as little as the other level of theory asks for.
    """
    shifts = by_name(model.config, model.shifts)
    counts, left = _left_over(model, ShuffledBatches(data, batch_size, seed=None))
    known = np.isfinite(left)
    columns = [model.config.type_names.index(name) for name in names]
    if known.any() and columns:
        moves = np.linalg.lstsq(counts[known][:, columns], left[known], rcond=1e-8)[0]  # (t,)
        shifts |= {name: shifts[name] + float(move) for name, move in zip(names, moves, strict=True)}
    return shifts


def mean_left_over(model: Allegro, data: FrameDataset, shifts: dict[str, float], batch_size: int) -> float:
    """Mean size of energies less those of a model with these energies of the free atoms [eV/atom], of some frames.

    Zero where no energy is known.
    """
    numbers = np.linspace(0, len(data) - 1, min(len(data), FRAMES_LOOKED_AT)).round().astype(int).tolist()
    batches = (data.batch(numbers[i : i + batch_size]) for i in range(0, len(numbers), batch_size))
    counts, left = _left_over(model, batches)
    moves = np.array([shifts.get(name, 0.0) for name in model.config.type_names]) - model.shifts.detach().numpy()
    per_atom = np.abs(left - counts @ moves) / counts.sum(1)
    known = np.isfinite(per_atom)
    return float(per_atom[known].mean()) if known.any() else 0.0


def _left_over(model: Allegro, batches: Iterable[Batch]) -> tuple[Array, Array]:
    """Atoms of each type (f, t), and energies less those of the model (f,) [eV], NaN where not known."""
    counts, left = [], []
    with torch.no_grad():
        for batch in batches:
            energies = model(batch.edge_vectors, batch.centre_types, batch.neighbour_types)
            types = torch.nn.functional.one_hot(batch.centre_types, model.n_types).to(torch.float64)
            counts.append(types.new_zeros((len(batch.energy), model.n_types)).index_add(0, batch.frame, types))
            left.append(batch.energy.index_add(0, batch.frame, energies, alpha=-1))
    return torch.cat(counts).numpy(), torch.cat(left).numpy()


def freeze(model: Allegro, parts: Sequence[str]) -> None:
    """Keep the weights of some parts of a model as they are."""
    known = list(dict.fromkeys(name.partition(".")[0] for name, _ in model.named_parameters()))
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise ValueError(f"`run.freeze` names {unknown[0]!r}; the parts of a model are {', '.join(known)}")
    for name, weight in model.named_parameters():
        if name.partition(".")[0] in parts:
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ValueError("`run.freeze` leaves no weight to train; name fewer parts")


def by_name(config: AllegroConfig, values: torch.Tensor) -> dict[str, float]:
    """One number for each type, (t,), by the type's name."""
    return dict(zip(config.type_names, values.detach().tolist(), strict=True))
