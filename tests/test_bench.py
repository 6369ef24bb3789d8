"""Speed measurements: the box, the figures, that peers compute the same, and what is refused. No seconds are judged."""

import json
import sys
import warnings

import numpy as np
import openmm
import pytest
import torch
from conftest import small_config, small_model
from scipy.spatial import cKDTree

from openmm_allegro.bench.config import BenchConfig
from openmm_allegro.bench.peers import give_weights, nequip_options
from openmm_allegro.bench.run import bench
from openmm_allegro.bench.setup import count_edges
from openmm_allegro.bench.timing import gemm_seconds
from openmm_allegro.bench.water import water
from openmm_allegro.checkpoint import save_model
from openmm_allegro.cli import main
from openmm_allegro.model import Allegro
from openmm_allegro.nequip.weights import copy_nequip_weights
from openmm_allegro.options import checked

SMALL = {"atoms": 24, "l_max": 1, "layers": 1, "scalars": 8, "channels": 4, "cutoff": 3.5, "steps": 3, "warmup": 1}
KEYS = {
    "atoms",
    "edges",
    "seconds_per_step",
    "seconds_lowest",
    "seconds_highest",
    "atom_steps_per_second",
    "peer",
    "peer_seconds_per_step",
    "peer_lowest",
    "peer_highest",
    "times_faster",
    "gemm_seconds",
    "times_gemm",
    "peak_rss_gib",
    "neighbour_builds",
    "bridge",
    "device",
    "precision",
    "threads",
    "versions",
    "machine",
}


def small_bench(**options: object) -> BenchConfig:
    """Three steps of eight molecules."""
    return BenchConfig.model_validate(SMALL | options)


@pytest.fixture(scope="module")
def figures():
    return bench(small_bench())


def test_the_figures_have_their_names(figures):
    assert figures.keys() >= KEYS
    assert (figures["atoms"], figures["bridge"], figures["device"], figures["precision"]) == (
        24,
        "python",
        "cpu",
        "single",
    )
    assert figures["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert figures["machine"]["cores"] >= 1
    assert figures["peer"] is None
    assert figures["times_faster"] is None


def test_times_and_memory_are_above_zero_and_in_order(figures):
    assert 0 < figures["seconds_lowest"] <= figures["seconds_per_step"] <= figures["seconds_highest"]
    assert figures["steps"] == 3
    assert figures["neighbour_builds"] <= 3
    assert figures["gemm_seconds"] > 0
    assert figures["atom_steps_per_second"] == pytest.approx(24 / figures["seconds_per_step"])
    assert figures["times_gemm"] == pytest.approx(figures["seconds_per_step"] / figures["gemm_seconds"])
    assert figures["peak_rss_gib"] >= figures["rss_before_gib"] > 0


def test_the_process_is_left_as_it_was():
    torch.set_num_threads(2)
    before = torch.random.get_rng_state()
    try:
        assert bench(small_bench(threads=1))["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32


def test_fewer_steps_are_timed_where_time_is_short_but_three_at_least():
    assert bench(small_bench(steps=50, max_seconds=1e-9))["steps"] == 3


@pytest.mark.parametrize("n_atoms", [3, 24, 100, 615, 3000, 30_000])
def test_water_of_any_size_is_whole_molecules_at_the_density_of_water(n_atoms):
    topology, positions = water(n_atoms)
    edges = [vector[axis].value_in_unit(openmm.unit.nanometer) for axis, vector in enumerate(
        topology.getPeriodicBoxVectors()
    )]  # fmt: skip
    assert topology.getNumAtoms() == len(positions) == 3 * round(n_atoms / 3)
    assert [atom.element.symbol for atom in topology.atoms()] == ["O", "H", "H"] * (len(positions) // 3)
    density = len(positions) / 3 / np.prod(edges) / 33.33
    assert density == pytest.approx(1.0, abs=0.05 if n_atoms == 615 else 1e-6)  # 615 are another program's box
    molecules = positions.reshape(-1, 3, 3)
    bonds = np.linalg.norm(molecules[:, 1:] - molecules[:, :1], axis=2)
    np.testing.assert_allclose(bonds, 0.09572, atol=2e-4)  # TIP3P; the liquid's file has 0.0001 nm


@pytest.mark.parametrize("n_atoms", [24, 192, 3000])
def test_molecules_of_water_do_not_overlap_across_the_box(n_atoms):
    topology, positions = water(n_atoms)
    edge = topology.getPeriodicBoxVectors()[0][0].value_in_unit(openmm.unit.nanometer)
    pairs = cKDTree(np.mod(positions, edge), boxsize=edge).query_pairs(0.15, output_type="ndarray") // 3
    assert (pairs[:, 0] == pairs[:, 1]).all()


def test_edges_are_counted_with_their_images_as_the_sum_over_distances_says():
    structure = water(24)
    edge = 10 * structure.topology.getPeriodicBoxVectors()[0][0].value_in_unit(openmm.unit.nanometer)
    cutoff = 1.3 * edge  # beyond the box
    images = edge * np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), axis=-1).reshape(-1, 3)
    steps = 10 * (structure.positions_nm[:, None] - structure.positions_nm)
    distances = np.linalg.norm(steps[:, :, None] + images, axis=3)
    assert count_edges(structure, cutoff) == np.count_nonzero((distances > 0) & (distances < cutoff))


def test_products_take_time_where_there_are_edges():
    model = small_model(torch.float32)
    device = torch.device("cpu")
    assert gemm_seconds(model, 0, device) == 0
    assert gemm_seconds(model, 1000, device) > 0
    assert gemm_seconds(model, 40_000, device) > 0


def test_a_model_and_a_structure_file_are_measured_as_they_are(tmp_path):
    model = small_model(torch.float32)
    save_model(model, tmp_path / "model.safetensors")
    topology, positions = water(24)
    with (tmp_path / "water.pdb").open("w") as file:
        openmm.app.PDBFile.writeFile(topology, positions * openmm.unit.nanometer, file)
    config = BenchConfig(
        model=tmp_path / "model.safetensors", system=tmp_path / "water.pdb", steps=3, warmup=1, precision="double"
    )
    figures = bench(config)
    assert (figures["atoms"], figures["cutoff"], figures["channels"]) == (24, 4.0, 4)
    assert figures["edges"] == count_edges(water(24), 4.0)  # to the PDB file's 0.001 Å no pair crosses the cutoff
    assert figures["precision"] == "double"


def test_the_command_prints_one_json_object(capfd):
    words = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["bench", *words, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["atoms"] == 24


def test_without_options_it_is_the_box_that_other_programs_are_timed_on():
    config = BenchConfig()
    assert (config.atoms, config.l_max, config.layers, config.scalars, config.channels) == (615, 2, 2, 64, 32)
    assert (config.cutoff, config.bridge, config.device, config.precision) == (5.0, "python", "cpu", "single")


def test_too_little_memory_is_told_in_a_sentence(capfd):
    assert main(["bench", "--atoms", "30", "--max-memory", "1 KiB"]) == 1
    assert "openmm-allegro: `max_memory` is 1024 bytes, but an atom" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"peer": "lammps"}, "option `peer` is 'lammps': input should be 'openmm-ml', 'nequip-aoti'"),
        ({"model": "water.safetensors", "l_max": 3}, "`l_max` is given, but the file named by `model` says it"),
        ({"system": "water.pdb", "atoms": 24}, "`atoms` is given, but the file named by `system` says it"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        checked(options, BenchConfig)


def test_a_platform_that_is_not_here_is_refused():
    here = [openmm.Platform.getPlatform(index).getName() for index in range(openmm.Platform.getNumPlatforms())]
    if "HIP" in here:
        pytest.skip("this OpenMM has every platform")
    with pytest.raises(ValueError, match="`platform` is HIP, but this OpenMM has only"):
        bench(small_bench(platform="HIP"))


def test_a_peer_that_is_not_installed_is_named_with_the_way_to_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openmmml", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r'is openmm-ml, but `openmmml` is not .*install "openmm-allegro\[bench\]"'):
        bench(small_bench(peer="openmm-ml"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"radial_chemical_embed": "spline", "num_layers": 1, "parity": False},
        {"per_type_energy_shifts": {"H": -13.6, "O": -2041.0}, "per_type_energy_scales": {"H": 0.7, "O": 2.1}},
        {"per_edge_type_cutoff": {"H": {"O": 3.0}, "O": 3.5}, "zbl": True, "readout_mlp_nonlinearity": "none"},
    ],
    ids=str,
)
def test_weights_given_to_nequip_come_back(options, nequip_state):
    from allegro.model import AllegroModel

    model = Allegro(small_config(**options), torch.float64)
    theirs = nequip_options(model.config, model.dtype)
    embed = theirs["radial_chemical_embed"]
    assert theirs.pop("_target_") == "allegro.model.AllegroModel"
    assert embed["_target_"].startswith("allegro.nn.TwoBody")
    network = AllegroModel(**theirs)
    give_weights(model, network)
    back = Allegro(model.config, torch.float64)
    copy_nequip_weights(network, back)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(back.get_parameter(name), weight, rtol=0, atol=0, msg=name)


@pytest.fixture
def nequip_state():
    """Nequip changes the default dtype of the process; put it back afterwards."""
    pytest.importorskip("allegro.model", reason="nequip-allegro is not installed")
    from nequip.utils.global_state import set_global_state

    before = torch.get_default_dtype()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        set_global_state()
        torch.set_default_dtype(torch.float64)
        yield
    torch.set_default_dtype(before)


PEERS = ["openmm-ml", "nequip-torchscript", pytest.param("nequip-aoti", marks=pytest.mark.slow)]


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_is_timed_on_the_same_weights(peer):
    pytest.importorskip("allegro.model", reason="nequip-allegro is not installed")
    if peer == "openmm-ml":
        pytest.importorskip("openmmml", reason="openmmml is not installed")
        version = tuple(int(part) for part in openmm.Platform.getOpenMMVersion().split(".")[:2])
        if version < (8, 6):
            pytest.skip("openmmml wants OpenMM 8.6.1")
    figures = bench(small_bench(peer=peer))
    assert figures["peer"] == peer
    assert figures["peer_energy_kj_per_mol"] == pytest.approx(figures["energy_kj_per_mol"], rel=1e-5)  # float32
    assert 0 < figures["peer_lowest"] <= figures["peer_seconds_per_step"] <= figures["peer_highest"]
    ratio = figures["peer_seconds_per_step"] / figures["seconds_per_step"]
    assert figures["times_faster"] == pytest.approx(ratio)
    assert figures["peer_steps"] == 3
    assert torch.get_default_dtype() == torch.float32
