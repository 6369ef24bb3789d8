"""Which atoms a model acts on, and which of its types they are."""

import operator
from collections.abc import Sequence

import torch  # noqa: F401  # isort: skip  (before openmm: else TorchForce is not found)
import numpy as np
from openmm import app


def checked_atoms(atoms: Sequence[int] | None, topology: app.Topology | None) -> list[int] | None:
    """The subset as a list, every index valid and named once."""
    if atoms is None:
        return None
    try:
        indices = [operator.index(index) for index in atoms]
    except TypeError as error:
        raise ValueError(f"`atoms` must be whole numbers, the indices of atoms: {error}") from error
    if any(isinstance(index, bool | np.bool_) for index in atoms):
        raise ValueError("`atoms` is a mask; give indices, for example `numpy.flatnonzero(mask)`")
    n_atoms = None if topology is None else topology.getNumAtoms()
    seen: set[int] = set()
    for index in indices:
        if index < 0:
            raise ValueError(f"`atoms` has the index {index}; atoms are counted from 0")
        if n_atoms is not None and index >= n_atoms:
            raise ValueError(f"`atoms` has the index {index}, but the topology has atoms 0 to {n_atoms - 1}")
        if index in seen:
            raise ValueError(f"`atoms` names atom {index} twice")
        seen.add(index)
    if not indices:
        raise ValueError("`atoms` is empty; leave it out to act on all atoms")
    return indices


def atom_types(
    known: tuple[str, ...],
    topology: app.Topology | None,
    atoms: list[int] | None = None,
    types: Sequence[str] | None = None,
    atomic_numbers: Sequence[int] | None = None,
) -> list[int]:
    """Type index of each atom that a model acts on, from given types or the topology's elements.

    known: type names of the model. Raises ValueError for an element that it does not know.
    """
    if types is not None and atomic_numbers is not None:
        raise ValueError("`types` and `atomic_numbers` are both given; give one of them")
    if atomic_numbers is not None:
        types = [_symbol(number) for number in atomic_numbers]
    if types is None:
        if topology is None:
            raise ValueError("there is no topology to take elements from; give `types` or `atomic_numbers`")
        types = _symbols(topology, atoms)
    expected = len(atoms) if atoms is not None else (topology.getNumAtoms() if topology is not None else len(types))
    if len(types) != expected:
        raise ValueError(f"there are {len(types)} types for {expected} atoms; give one for each atom of the model")
    if expected == 0:
        raise ValueError("there is no atom for the model to act on; give a topology or a structure that has some")
    numbers = atoms if atoms is not None else range(expected)
    for atom, name in zip(numbers, types, strict=True):
        if name not in known:
            raise ValueError(
                f"atom {atom} is {name}, but this model knows only {', '.join(known)}; "
                f"retrain with {name} or choose another model"
            )
    return [known.index(name) for name in types]


def _symbol(atomic_number: int) -> str:
    try:
        return app.Element.getByAtomicNumber(int(atomic_number)).symbol
    except KeyError as error:
        raise ValueError(f"`atomic_numbers` has {atomic_number}, which is no element") from error


def _symbols(topology: app.Topology, atoms: list[int] | None) -> list[str]:
    """Chemical symbols from a topology."""
    every = list(topology.atoms())
    chosen = every if atoms is None else [every[index] for index in atoms]
    for atom in chosen:
        if atom.element is None:
            raise ValueError(
                f"atom {atom.index} ({atom.name} of {atom.residue.name}) has no element; leave virtual sites out "
                "with `atoms`, or give `types`"
            )
    return [atom.element.symbol for atom in chosen]
