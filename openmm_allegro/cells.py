"""The cell and the space around it: heights, images in reach, and pieces to be searched one after another.

Symbols used in this file
    n  atoms        m  atoms and their images in reach of the cell        b  atoms of a piece
"""

import math

import torch
from torch import Tensor


def check_heights(cell: Tensor) -> None:
    """Refuse a cell so flat that the images within a cutoff could not be counted. cell: (3, 3) [Å]."""
    smallest_height = 0.5  # Å, less than that of any crystal
    height = float(heights(cell).min())
    if not height > smallest_height:
        raise ValueError(
            f"the periodic cell is too flat: its smallest height is {height} Å, below {smallest_height} Å; "
            "check the box vectors and their unit"
        )


def heights(cell: Tensor) -> Tensor:
    """Distances between opposite faces, (3,) [Å]. cell: (3, 3) [Å]."""
    faces = torch.linalg.cross(cell.roll(-1, 0), cell.roll(-2, 0))
    return torch.linalg.det(cell).abs() / torch.linalg.vector_norm(faces, dim=1)


def with_images(fractional: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Atoms and their images within reach of the cell: which atom each of the m is, and the images' (3, m - n) shifts.

    fractional: (3, n), from 0 to 1; reach: (3,) on the CPU, as a fraction of the cell's heights.
    """
    atoms, shifts = torch.arange(fractional.shape[1], device=fractional.device), torch.zeros_like(fractional)
    for axis in range(3):
        margin = float(reach[axis])
        all_atoms, all_shifts = [atoms], [shifts]
        for image in range(-math.ceil(margin), math.ceil(margin) + 1):
            place = fractional[axis, atoms] + image
            near = torch.nonzero((place >= -margin) & (place <= 1 + margin)).flatten()
            if image != 0:
                moved = shifts[:, near]
                moved[axis] = image
                all_atoms.append(atoms[near])
                all_shifts.append(moved)
        atoms, shifts = torch.cat(all_atoms), torch.cat(all_shifts, 1)
    return atoms, shifts[:, fractional.shape[1] :]


def on_one_spot(places: Tensor) -> list[int]:
    """Two of the places (3, m) that are the same to the last bit; empty if there are none."""
    spots, which, counts = torch.unique(places, return_inverse=True, return_counts=True, dim=1)
    if spots.shape[1] == places.shape[1]:
        return [0][:0]
    both = torch.nonzero(which == counts.argmax()).flatten()
    return [int(both[0]), int(both[1])]


def split(places: Tensor, largest: int) -> list[Tensor]:
    """Atoms (b,) in pieces of at most `largest`, halved across their longest extent. places: (3, n)."""
    waiting = [torch.arange(places.shape[1], device=places.device)]
    pieces: list[Tensor] = []
    while len(waiting) > 0:
        piece = waiting.pop()
        if piece.shape[0] <= max(1, largest):
            pieces.append(piece)
        else:
            here = places[:, piece]
            axis = int((here.amax(1) - here.amin(1)).argmax())
            piece = piece[torch.argsort(here[axis])]
            half = piece.shape[0] // 2
            waiting += [piece[half:], piece[:half]]
    return pieces


def surroundings(piece: Tensor, everywhere: Tensor, reach: Tensor) -> Tensor:
    """Which of the m lie within reach of the atoms of a piece (b,) and are not among them.

    everywhere: (3, m) and reach: (3,), both as fractions of the cell.
    """
    own = everywhere[:, piece]
    low, high = own.amin(1) - reach, own.amax(1) + reach
    near = torch.ones(everywhere.shape[1], dtype=torch.bool, device=piece.device)
    for axis in range(3):
        near &= (everywhere[axis] >= low[axis]) & (everywhere[axis] <= high[axis])
    near[piece] = False
    return torch.nonzero(near).flatten()
