"""The own atoms of a rank among ghosts give what the whole periodic system gives."""

import pytest
import torch
from conftest import random_atoms, small_model

from openmm_allegro.cells import heights, with_images
from openmm_allegro.lammps.ghosts import GhostPotential
from openmm_allegro.potential import Potential

CPU = torch.device("cpu")


def places_around(positions, cell, reach):
    """Atoms and all their images within reach of the cell: places (m, 3) and which atom each is (m,)."""
    fractional = torch.linalg.solve(cell.t(), positions.t())
    atoms, shifts = with_images(fractional, reach / heights(cell))
    return torch.cat((positions, positions[atoms[len(positions) :]] + shifts.t() @ cell)), atoms


def shares_of_two_ranks(potential, places, atoms, types, first):
    """What two ranks give that own the atoms up to `first` and from there on, in the order of the system."""
    shares = []
    n_atoms = len(types)
    for own in (torch.arange(first), torch.arange(first, n_atoms)):
        order = torch.cat((own, torch.tensor([i for i in range(len(atoms)) if i not in set(own.tolist())])))
        known = torch.cat((own, torch.tensor([i for i in range(n_atoms) if i not in set(own.tolist())])))
        which = torch.argsort(known)[atoms[order]]
        share = potential(places[order], which, types[known], len(own), known)
        shares.append(share._replace(forces=torch.zeros_like(share.forces).index_copy(0, known, share.forces)))
    return shares


@pytest.mark.parametrize(("n_atoms", "edge"), [(40, 9.0), (3, 3.0)], ids=["liquid", "cell below the cutoff"])
@pytest.mark.parametrize("piece_atoms", [32768, 7])
def test_two_ranks_add_up_to_the_periodic_system(n_atoms, edge, piece_atoms):
    positions, cell, types = random_atoms(n_atoms, edge)
    energy, forces, virial = Potential(small_model())(positions, cell, types)
    potential = GhostPotential(small_model(), 1.0, CPU)
    potential.neighbors.piece_atoms = piece_atoms
    places, atoms = places_around(positions, cell, 5.0)
    shares = shares_of_two_ranks(potential, places, atoms, types, n_atoms // 3)
    close = {"rtol": 1e-11, "atol": 1e-11}  # the same sums in another order
    torch.testing.assert_close(sum(share.energy for share in shares), energy, **close)
    torch.testing.assert_close(torch.cat([share.energies for share in shares]).sum(), energy, **close)
    torch.testing.assert_close(sum(share.forces for share in shares), forces, **close)
    torch.testing.assert_close(sum(share.virial for share in shares), virial, **close)


def test_forces_are_minus_the_slope_of_the_energies_of_all_atoms():
    positions, cell, types = random_atoms(12, 5.0)
    potential = GhostPotential(small_model(), 1.0, CPU)

    def share(moved):
        places, atoms = places_around(moved, cell, 5.0)
        return potential(places, atoms, types, 12, torch.arange(12))

    step = 1e-4  # error of a central difference ~ step^2 f''' / 6 ~ 1e-8
    moved = [positions.clone(), positions.clone()]
    moved[0][5, 1] += step
    moved[1][5, 1] -= step
    slope = (share(moved[0]).energies - share(moved[1]).energies).sum() / (2 * step)
    assert share(positions).forces[5, 1].item() == pytest.approx(-slope.item(), rel=1e-6, abs=1e-7)


def test_the_list_is_kept_within_the_skin_and_made_again_beyond():
    positions, cell, types = random_atoms(12, 9.0)
    potential = GhostPotential(small_model(), 1.0, CPU)
    places, atoms = places_around(positions, cell, 5.0)
    for shift, builds in ((0.0, 1), (0.49, 1), (0.51, 2)):  # half the skin is 0.5 Å
        moved = places.clone()
        moved[atoms == 3] += torch.tensor([shift, 0.0, 0.0])
        share = potential(moved, atoms, types, 12, torch.arange(12))
        expected = Potential(small_model())(moved[:12], cell, types)
        torch.testing.assert_close(share.energy, expected[0], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(share.forces, expected[1], rtol=1e-11, atol=1e-11)
        assert potential.neighbors.builds == builds


def test_a_list_of_no_use_is_made_again():
    positions, cell, types = random_atoms(12, 9.0)
    potential = GhostPotential(small_model(), 1.0, CPU)
    places, atoms = places_around(positions, cell, 5.0)
    for builds in (1, 2):
        potential(places, atoms, types, 12, torch.arange(12))
        assert potential.neighbors.builds == builds
        potential.neighbors.allowed = -1.0  # as after two atoms on one spot on a GPU


def test_a_rank_without_atoms_gives_nothing():
    nowhere, nobody = torch.zeros((0, 3), dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    share = GhostPotential(small_model(), 1.0, CPU)(nowhere, nobody, nobody, 0, nobody)
    assert share.energy == 0
    assert share.forces.shape == (0, 3)


def test_atoms_are_named_by_their_numbers():
    positions, cell, types = random_atoms(12, 9.0)
    potential = GhostPotential(small_model(), 1.0, CPU)
    numbers = torch.arange(101, 113)
    positions[4] = positions[3]
    places, atoms = places_around(positions, cell, 5.0)
    with pytest.raises(ValueError, match=r"atoms 10[45] and 10[45] are on one spot"):
        potential(places, atoms, types, 12, numbers)
    positions[4, 0] = torch.nan
    places[atoms == 4] = torch.nan
    with pytest.raises(ValueError, match="the position of atom 105 is not a finite number"):
        potential(places, atoms, types, 12, numbers)
