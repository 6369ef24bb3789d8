"""What every member of an ensemble says of a configuration, and how far they disagree.

Symbols used in this file
    n  atoms        k  members of the ensemble
"""

import io
from typing import NamedTuple

import ase
import ase.io
import torch
from torch import Tensor

from openmm_allegro.dense import Linear
from openmm_allegro.ensemble import Ensemble, Factors, in_precision
from openmm_allegro.last_layer import last_weights, sharing_copy
from openmm_allegro.model import Allegro
from openmm_allegro.potential import Block, Potential


class MemberAnswers(NamedTuple):
    """What the members say, each for itself."""

    energies: Tensor
    """(k,) float64 [eV]."""
    forces: Tensor
    """(k, n, 3) float64 [eV/Å]."""
    virials: Tensor
    """(k, 3, 3) float64 [eV]."""


class Spread(NamedTuple):
    """Mean and calibrated standard deviation of the members."""

    energy: float
    """[eV]."""
    forces: Tensor
    """(n, 3) float64 [eV/Å]."""
    virial: Tensor
    """(3, 3) float64 [eV]."""
    energy_spread: float
    """[eV]."""
    force_spread: Tensor
    """Of a component of the force on each atom, the root mean square over the three, (n,) float64 [eV/Å]."""

    def scaled(self, factors: Factors) -> "Spread":
        """The spreads multiplied by these."""
        energy_spread, force_spread = self.energy_spread * factors.energy, self.force_spread * factors.forces
        return self._replace(energy_spread=energy_spread, force_spread=force_spread)


class Members:
    """The members of an ensemble, evaluated one by one with one neighbour list.

    Of members that are mirror images about a centre, which are linear in what tells them apart, the centre and one
    of each pair are evaluated. The ensemble itself stays as it is and where it is.
    """

    def __init__(self, ensemble: Ensemble, device: torch.device | None = None, skin: float = 0.0) -> None:
        """skin: how far beyond the cutoff the neighbour list reaches [Å], for positions that follow each other."""
        self.config = ensemble.config
        self.device = device or torch.device("cpu")
        self.is_mirrored = ensemble.centre is not None
        self.factors = ensemble.factors or Factors(1.0, 1.0)
        apart = list(ensemble.members)
        first = ensemble.centre or apart.pop(0)
        self.model = in_precision(first, ensemble.dtype)
        """A copy of the centre, or of the first member, on the device."""
        self.potential = Potential(self.model, skin).to(self.device)
        blocks = [self.potential.block]
        if ensemble.centre is None:
            blocks += [_block(member) for member in apart]
        else:
            blocks += [_block_with_last_layer_of(member, self.potential.block) for member in apart[::2]]
        self.blocks = [block.to(self.device).requires_grad_(False) for block in blocks]

    def answers(self, positions: Tensor, cell: Tensor, types: Tensor, numbers: Tensor | None = None) -> MemberAnswers:
        """What each member says.

        positions: (n, 3) [Å]; cell: (3, 3) [Å], zero if not periodic; types: (n,); numbers: of the atoms in a larger
        system, for messages, (n,).
        """
        arguments = [tensor.to(self.device) for tensor in (positions, cell, types)]
        found = []
        for block in self.blocks:
            self.potential.block = block
            found.append([part.double().cpu() for part in self.potential(*arguments, numbers)])
        energies, forces, virials = (torch.stack(parts) for parts in zip(*found, strict=True))
        if self.is_mirrored:
            energies, forces, virials = (_with_mirror_images(parts) for parts in (energies, forces, virials))
        return MemberAnswers(energies, forces, virials)

    def spread(self, positions: Tensor, cell: Tensor, types: Tensor, numbers: Tensor | None = None) -> Spread:
        """Mean and spread; arguments as those of `answers`.

        The variance divides by the members less one, or by the members where their mean is given by the centre.
        """
        energies, forces, virials = self.answers(positions, cell, types, numbers)
        correction = 0 if self.is_mirrored else 1
        raw = Spread(
            energy=float(energies.mean()),
            forces=forces.mean(0),
            virial=virials.mean(0),
            energy_spread=float(energies.std(correction=correction)),
            force_spread=forces.var(0, correction=correction).mean(1).sqrt(),
        )
        return raw.scaled(self.factors)


def frame_with_spread(image: ase.Atoms, spread: Spread) -> str:
    """A frame as a part of an extended XYZ file, with `energy_spread` [eV] and the array `force_spread` [eV/Å]."""
    image.info["energy_spread"] = spread.energy_spread
    image.arrays["force_spread"] = spread.force_spread.numpy()
    text = io.StringIO()
    ase.io.write(text, image, format="extxyz")
    return text.getvalue()


def _block(member: Allegro) -> Block:
    """A block with tensors of its own."""
    return Block(in_precision(member, member.dtype).eval(), member.dtype == torch.float32, False)


def _block_with_last_layer_of(member: Allegro, block: Block) -> Block:
    """A block that shares all tensors with that of the centre but the last layer's."""
    if len(member.readout) == 1:  # that layer is folded into those before
        return _block(member)
    variant = sharing_copy(block)
    variant.folded.last = Linear(last_weights(member).unsqueeze(1), member.dtype)
    return variant


def _with_mirror_images(parts: Tensor) -> Tensor:
    """parts: of the centre, then of one of each pair (1 + k/2, …). Returns those of the members (k, …)."""
    centre, one = parts[:1], parts[1:]
    return torch.stack([one, 2 * centre - one], dim=1).flatten(0, 1)
