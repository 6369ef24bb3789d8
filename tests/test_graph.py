"""Models in the formats of other programs give the numbers that they give here."""

import itertools
import json
import warnings
from pathlib import Path

import ase
import numpy as np
import pytest
import torch
from conftest import random_atoms, small_model
from ensembles import deep_ensemble, last_layer_ensemble

from openmm_allegro import AllegroCalculator
from openmm_allegro.bench.peers import nequip_options
from openmm_allegro.checkpoint import save_model
from openmm_allegro.compiled_graph import CompiledGraph
from openmm_allegro.config import AllegroConfig
from openmm_allegro.ensemble_file import save_ensemble
from openmm_allegro.export_compiled import INPUTS, OUTPUTS
from openmm_allegro.export_graph import export_graph, graph_metadata
from openmm_allegro.graph import GraphPotential
from openmm_allegro.nequip.weights import copy_nequip_weights
from openmm_allegro.potential import Potential

SYMBOLS = np.array(["H", "O"])
CUTOFFS = {"H": {"O": 3.0}, "O": 3.5}
TOLERANCES = {"double": 1e-10, "single": 2e-5}
"""Relative. float64: sums in another order. float32: its rounding, 6e-8, over sums of hundreds of terms."""


@pytest.fixture
def _dtype_as_before():
    """Nequip changes the default dtype of the process; put it back afterwards."""
    pytest.importorskip("nequip", reason="nequip is not installed")
    before = torch.get_default_dtype()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from nequip.utils.global_state import set_global_state

        set_global_state()
        torch.set_default_dtype(torch.float64)  # which it does at its first call in a process only
        yield
    torch.set_default_dtype(before)


def exported(model, path: Path, precision: str = "double") -> Path:
    save = save_model if hasattr(model, "readout") else save_ensemble
    save(model, path / "model.safetensors")
    export_graph(path / "model.safetensors", path / "model.nequip.pth", precision)
    return path / "model.nequip.pth"


def ghost_graph(positions, cell, types, cutoff: float) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What `pair_style allegro` hands over: atoms and, after them, their images; pairs from the atoms only.

    Returns the graph, and which atom each of its positions is.
    """
    shifts = torch.tensor(list(itertools.product((-1, 0, 1), repeat=3)), dtype=torch.float64)
    shifts = torch.cat((shifts[13:14], shifts[:13], shifts[14:]))  # no shift first
    everywhere = (positions.unsqueeze(0) + (shifts @ cell).unsqueeze(1)).flatten(0, 1)
    atoms = torch.arange(len(positions)).repeat(27)
    apart = (everywhere.unsqueeze(0) - positions.unsqueeze(1)).norm(dim=2)
    edges = torch.nonzero((apart <= cutoff) & (apart > 0)).t().contiguous()
    return {"pos": everywhere, "edge_index": edges, "atom_types": types[atoms]}, atoms


def with_kokkos_padding(graph: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """As the Kokkos version pads it: atoms at the origin, the last 100 Å away, and many pairs of the last two."""
    n_atoms = len(graph["pos"])
    more = torch.zeros((5, 3), dtype=torch.float64)
    more[-1, 0] = 100.0
    pairs = torch.tensor([[n_atoms + 3], [n_atoms + 4]]).expand(2, 300)
    return {
        "pos": torch.cat((graph["pos"], more)),
        "edge_index": torch.cat((graph["edge_index"], pairs), 1),
        "atom_types": torch.cat((graph["atom_types"], torch.zeros(5, dtype=torch.int64))),
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"per_edge_type_cutoff": CUTOFFS},
        {"zbl": True, "num_layers": 1},
        {"radial_chemical_embed": "spline", "l_max": 1, "per_type_energy_shifts": {"H": -13.6, "O": -2041.0}},
        {"parity": False, "num_layers": 3, "tp_path_channel_coupling": False},
        {"zbl": True, "per_edge_type_cutoff": CUTOFFS, "radial_chemical_embed": "spline", "l_max": 3},
    ],
    ids=str,
)
@pytest.mark.usefixtures("_dtype_as_before")
def test_nequip_with_an_exported_file_and_our_calculator_give_the_numbers_of_nequips_own_model(tmp_path, options):
    allegro = pytest.importorskip("allegro.model", reason="nequip-allegro is not installed")
    from nequip.data import compute_neighborlist_, from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper
    from nequip.integrations.ase import NequIPCalculator

    ours = small_model(**options)
    given = nequip_options(ours.config, torch.float64)
    theirs = allegro.AllegroModel(**{name: value for name, value in given.items() if name != "_target_"})
    copy_nequip_weights(theirs, ours)
    positions, cell, types = random_atoms(20, 6.0)
    atoms = ase.Atoms(SYMBOLS[types], positions, cell=cell, pbc=True)
    data = ChemicalSpeciesToAtomTypeMapper(["H", "O"])(from_ase(atoms))
    expected = theirs(compute_neighborlist_(data, r_max=ours.config.r_max))
    tolerances = {"double": 1e-10} if options.get("l_max") == 3 or "parity" in options else TOLERANCES
    calculators = [
        (
            NequIPCalculator.from_compiled_model(
                exported(ours, tmp_path, name), chemical_species_to_atom_type_map=True
            ),
            each,
        )
        for name, each in tolerances.items()
    ]
    for atoms.calc, tolerance in [*calculators, (AllegroCalculator(ours, precision="double"), 1e-10)]:
        for found, key in (
            (atoms.get_potential_energies(), "atomic_energy"),
            (atoms.get_forces(), "forces"),
            (atoms.get_stress(voigt=False), "stress"),
        ):
            reference = expected[key].detach().numpy().reshape(found.shape)
            learnt = np.ptp(reference) if key == "atomic_energy" else np.abs(reference).max()
            assert np.abs(found - reference).max() < tolerance * learnt, (tolerance, key)
        assert atoms.get_potential_energy() == pytest.approx(atoms.get_potential_energies().sum(), rel=1e-14)


@pytest.mark.usefixtures("_dtype_as_before")
def test_nequip_keeps_giving_the_same_numbers_along_a_run_and_for_a_molecule(tmp_path):
    pytest.importorskip("nequip", reason="nequip is not installed")
    from nequip.integrations.ase import NequIPCalculator

    model = small_model(per_edge_type_cutoff=CUTOFFS)
    calculator = NequIPCalculator.from_compiled_model(exported(model, tmp_path), chemical_species_to_atom_type_map=True)
    for step, n_atoms in enumerate((20, 20, 20, 20, 7, 30, 1)):  # TorchScript optimises in its first calls
        positions, cell, types = random_atoms(n_atoms, 7.0, seed=step)
        atoms = ase.Atoms(SYMBOLS[types], positions, calculator=calculator)
        energy, forces, _ = Potential(model)(positions, torch.zeros(3, 3), types)
        assert atoms.get_potential_energy() == pytest.approx(energy.item(), rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-12)


@pytest.mark.parametrize("compiled", [False, True], ids=["torchscript", "for aotinductor"])
@pytest.mark.parametrize("pad", [False, True], ids=["plain", "kokkos"])
def test_the_graph_of_pair_style_allegro_gives_energy_forces_and_virial(tmp_path, pad, compiled):
    model = small_model(zbl=True, per_type_energy_shifts={"H": -13.6, "O": -2041.0})
    positions, cell, types = random_atoms(30, 7.0)
    graph, atoms = ghost_graph(positions, cell, types, 4.0)
    n_graph = len(atoms)
    graph = with_kokkos_padding(graph) if pad else graph
    edges = graph["edge_index"]
    graph["edge_index"] = edges[:, torch.randperm(edges.shape[1], generator=torch.Generator().manual_seed(3))]
    if compiled:  # as AOTInductor would run it
        answers = CompiledGraph(model)([graph["pos"], graph["edge_index"], graph["atom_types"]])
        found = dict(zip(OUTPUTS["lammps"], answers, strict=True))
    else:
        found = torch.jit.freeze(torch.jit.load(exported(model, tmp_path)))(graph)
        assert set(found) == {"atomic_energy", "total_energy", "forces", "virial"}
    energy, forces, virial = Potential(model)(positions, cell, types)
    assert {tensor.dtype for tensor in found.values()} == {torch.float64}
    assert found["atomic_energy"][:30].sum().item() == pytest.approx(energy.item(), rel=1e-13)
    # LAMMPS adds the forces on images to those on their atoms; float64, another order
    folded = torch.zeros_like(positions).index_add(0, atoms, found["forces"][:n_graph])
    torch.testing.assert_close(folded, forces, rtol=0, atol=1e-12)
    torch.testing.assert_close(found["virial"], virial.unsqueeze(0), rtol=0, atol=1e-11)
    assert not found["forces"][n_graph:].any()


def test_atoms_without_neighbours_have_the_energies_of_isolated_atoms():
    model = small_model(per_type_energy_shifts={"H": -13.6, "O": -2041.0})
    nobody = torch.zeros((2, 0), dtype=torch.int64)
    data = {"pos": torch.zeros((2, 3)).double(), "edge_index": nobody, "atom_types": torch.tensor([1, 0])}
    found = torch.jit.script(GraphPotential(model))(data)
    assert found["atomic_energy"].tolist() == [[-2041.0], [-13.6]]
    assert not found["forces"].any()


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_an_atom_that_is_nowhere_is_no_atom_alone(broken):
    model = small_model()
    positions = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [broken, 0.0, 0.0]], dtype=torch.float64)
    edges, types = torch.tensor([[0, 1], [1, 0]]), torch.tensor([0, 1, 1])  # what a neighbour list finds
    with pytest.raises(torch.jit.Error, match="the position of atom 2 is not a finite number; use a shorter time step"):
        torch.jit.script(GraphPotential(model))({"pos": positions, "edge_index": edges, "atom_types": types})
    energies = CompiledGraph(model)([positions, edges, types])[0].flatten()
    assert energies.isfinite().tolist() == [True, True, False]


@pytest.mark.parametrize("compiled", [False, True], ids=["torchscript", "for aotinductor"])
def test_stress_is_minus_the_virial_over_the_volume_and_no_number_without_one(compiled):
    model = small_model()
    positions, cell, types = random_atoms(20, 9.0)
    apart = torch.cdist(positions, positions)
    edges = torch.nonzero((apart > 0) & (apart < 4)).t()
    data = {"pos": positions, "edge_index": edges, "atom_types": types, "cell": cell.unsqueeze(0)}
    data["edge_cell_shift"] = torch.zeros((edges.shape[1], 3), dtype=torch.float64)

    def stress(cell):
        now = data | {"cell": cell}
        if compiled:
            return CompiledGraph(model)([now[name] for name in INPUTS["ase"]])[3]
        return torch.jit.script(GraphPotential(model))(now)["stress"]

    virial = Potential(model)(positions, torch.zeros(3, 3), types)[2]
    torch.testing.assert_close(stress(data["cell"]), -virial.unsqueeze(0) / torch.linalg.det(cell), rtol=0, atol=1e-13)
    assert stress(torch.zeros_like(data["cell"])).isnan().all()


@pytest.mark.parametrize("ensemble", [deep_ensemble(), last_layer_ensemble()], ids=["deep", "last layer"])
def test_an_ensemble_leaves_as_its_mean(tmp_path, ensemble):
    positions, cell, types = random_atoms(30, 7.0)
    graph, _ = ghost_graph(positions, cell, types, 4.0)
    energy = torch.jit.load(exported(ensemble, tmp_path))(graph)["atomic_energy"][:30].sum()
    of_members = [Potential(member)(positions, cell, types)[0].item() for member in ensemble.members]
    assert energy.item() == pytest.approx(np.mean(of_members), rel=1e-12)


def test_two_systems_at_once_are_refused():
    data = {
        "pos": torch.zeros((2, 3)).double(),
        "edge_index": torch.zeros((2, 0), dtype=torch.int64),
        "atom_types": torch.tensor([1, 0]),
        "batch": torch.tensor([0, 1]),
    }
    with pytest.raises(ValueError, match="takes one system at a time, but `batch` names several"):
        GraphPotential(small_model())(data)


def test_metadata_are_those_that_pair_style_allegro_parses(tmp_path):
    model = small_model(per_edge_type_cutoff=CUTOFFS)
    wanted = dict.fromkeys(("r_max", "per_edge_type_cutoff", "type_names", "num_types", "allow_tf32"), "")
    wanted |= {"model_dtype": "", "metadata.json": ""}
    torch.jit.load(exported(model, tmp_path, "single"), _extra_files=wanted)
    text = {name: content.decode() for name, content in wanted.items()}
    assert text["type_names"].split() == ["H", "O"]
    assert (float(text["r_max"]), int(text["num_types"]), int(text["allow_tf32"])) == (4.0, 2, 0)
    assert [float(word) for word in text["per_edge_type_cutoff"].split()] == [4.0, 3.0, 3.5, 3.5]  # HH HO OH OO
    assert text["model_dtype"] == "float32"
    config = AllegroConfig.model_validate(json.loads(text["metadata.json"])["config"])
    assert config == model.config
    assert "per_edge_type_cutoff" not in graph_metadata(small_model().config, torch.float32)


def test_another_ending_is_refused(tmp_path):
    save_model(small_model(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"`output` is `.*force.pt`, but .* files that end in `\.nequip\.pth`"):
        export_graph(tmp_path / "model.safetensors", tmp_path / "force.pt")
