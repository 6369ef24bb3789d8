"""Deviation, fluctuation, torsions and secondary structure of ideal helices and strands, and beside MDAnalysis."""

import warnings
from importlib.resources import files

import mdtraj
import numpy as np
import pytest
from peptides import HELIX, STRAND, TRICLINIC, backbone, peptide, shaken, wrapped
from scipy.spatial.transform import Rotation
from trajectories import atoms

from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.ramachandran import ramachandran
from openmm_allegro.analysis.rmsd import rmsd, rmsf
from openmm_allegro.analysis.secondary_structure import secondary_structure

mda = pytest.importorskip("MDAnalysis")
HELIX_NM = backbone(*np.array([HELIX] * 12).T)
STRAND_NM = backbone(*np.array([STRAND] * 12).T)


def universe(positions_nm):
    """The same peptide for MDAnalysis, without a cell. positions_nm: (f, 4 n, 3)."""
    n = positions_nm.shape[1] // 4
    found = mda.Universe.empty(4 * n, n, atom_resindex=np.repeat(np.arange(n), 4), trajectory=True)
    found.add_TopologyAttr("names", ["N", "CA", "C", "O"] * n)
    found.add_TopologyAttr("resnames", ["ALA"] * n)
    found.add_TopologyAttr("segids", ["A"])
    found.add_TopologyAttr("resids", np.arange(1, n + 1))
    found.add_TopologyAttr("masses", [14.007, 12.011, 12.011, 15.999] * n)
    found.load_new(10 * positions_nm.astype(np.float32), order="fac")
    return found


def test_rmsd_agrees_with_mdanalysis():
    from MDAnalysis.analysis.rms import RMSD

    moved = shaken(HELIX_NM, 15, 0.02)
    found = rmsd(peptide(wrapped(moved, TRICLINIC), TRICLINIC), "name CA", align="backbone")
    theirs = universe(moved)
    expected = RMSD(theirs, theirs, select="name N CA C O", groupselections=["name CA"]).run().results.rmsd
    assert found.values == pytest.approx(expected[:, 3] / 10, abs=1e-5)  # nm, positions in single precision


def test_rmsd_of_independent_noise_is_the_root_of_two_times_it():
    found = rmsd(peptide(shaken(HELIX_NM, 400, 0.01)), "protein")
    # 144 coordinates lose six to the superposition: σ √(2 · 138 / 48); one RMSD of the first frame stays, 6 % of 1/√138
    assert found.values[1:].mean() == pytest.approx(0.01 * np.sqrt(2 * 138 / 48), rel=0.07)
    assert found.values[0] == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("elements", "angstrom"),
    [
        ("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]),
        ("COO", [[0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]]),
        ("CHHHH", [[0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [-0.63, 0.63, -0.63], [0.63, -0.63, -0.63]]),
    ],
    ids=["water", "carbon dioxide", "methane"],
)
def test_rmsd_of_small_molecules_is_that_of_the_best_rotation(elements, angstrom):
    random = np.random.default_rng(1)
    shape = np.array(angstrom) / 10 + random.normal(0, 0.003, (60, len(elements), 3))
    turned = (shape @ Rotation.random(60, random_state=2).as_matrix()).astype(np.float32)
    centred = turned.astype(np.float64) - turned.astype(np.float64).mean(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of linear molecules, whose best rotation is not the only one
        expected = [Rotation.align_vectors(centred[0], frame)[1] / np.sqrt(len(elements)) for frame in centred]
    found = rmsd(atoms(elements, turned), "all")
    assert found.values == pytest.approx(np.array(expected), abs=1e-6)  # nm, positions in single precision


def test_rmsd_from_a_reference_of_other_order_of_frames():
    reference = peptide(HELIX_NM[None])
    found = rmsd(peptide(shaken(HELIX_NM, 4, 0.0)), "protein", reference=reference)
    assert found.values == pytest.approx(np.zeros(4), abs=1e-5)
    with pytest.raises(ValueError, match="has 48 atoms .* but 24 "):
        rmsd(peptide(HELIX_NM[None]), "protein", reference=peptide(HELIX_NM[None, :24]))
    with pytest.raises(ValueError, match="has 1 atoms, but a superposition needs 3"):
        rmsd(peptide(HELIX_NM[None]), "index 0")


def test_rmsf_agrees_with_mdanalysis():
    from MDAnalysis.analysis import align
    from MDAnalysis.analysis.rms import RMSF

    moved = shaken(HELIX_NM, 200, 0.02)
    found = rmsf(peptide(wrapped(moved, TRICLINIC), TRICLINIC), "name CA", align="protein")
    theirs = universe(moved)
    average = align.AverageStructure(theirs, theirs, ref_frame=0).run()
    align.AlignTraj(theirs, average.results.universe, in_memory=True).run()
    expected = RMSF(theirs.select_atoms("name CA")).run().results.rmsf / 10
    assert found.rmsf_nm == pytest.approx(expected, rel=1e-3)
    assert found.residues.tolist() == list(range(1, 13))


def test_rmsf_of_independent_noise_and_its_error():
    found = rmsf(peptide(shaken(HELIX_NM, 1000, 0.01)), "protein")
    assert found.mean.value == pytest.approx(0.01 * np.sqrt(138 / 48), rel=0.01)
    # a standard deviation over 3 n coordinates is known to 1/√(6 n) = 1.3 %
    assert np.median(found.error_nm / found.rmsf_nm) == pytest.approx(1 / np.sqrt(6000), rel=0.3)


def test_torsions_of_an_ideal_helix_are_found():
    trajectory = peptide(wrapped(shaken(HELIX_NM, 5, 0.0), TRICLINIC), TRICLINIC)
    found = ramachandran(trajectory, n_bins=360)
    phi, psi = np.unravel_index(found.density.argmax(), found.density.shape)
    # the torsions lie on the border of two bins of one degree
    assert (found.edges_deg[phi] + 0.5, found.edges_deg[psi] + 0.5) == (
        pytest.approx(-57, abs=1),
        pytest.approx(-47, abs=1),
    )
    assert found.regions["alpha"].value == 1.0
    assert len(found.residues) == 10


def test_torsions_agree_with_mdanalysis():
    from MDAnalysis.analysis.dihedrals import Ramachandran

    moved = shaken(STRAND_NM, 20, 0.01)
    found = ramachandran(peptide(moved), n_bins=36)
    angles = Ramachandran(universe(moved).residues[1:-1].atoms).run().results.angles  # (f, r, 2)
    expected = np.histogram2d(*angles.reshape(-1, 2).T, bins=2 * [found.edges_deg], density=True)[0]
    changed = np.abs(found.density - expected).sum() / expected.sum()
    assert changed < 0.02  # of 200 torsions one or two lie at the border of a bin in single precision
    assert found.curve().y == pytest.approx(expected.sum(axis=0) * 10, abs=0.02 * expected.sum())
    phi, psi = angles[..., 0], angles[..., 1]
    beta = (phi < -20) & ((psi > 50) | (psi < -120))
    assert found.regions["beta"].value == pytest.approx(beta.mean(), abs=0.01)


def test_uniform_torsions_fill_the_regions_by_their_area():
    random = np.random.default_rng(0)
    frames = np.stack([backbone(*random.uniform(-180, 180, size=(2, 12))) for _ in range(300)])
    found = ramachandran(peptide(frames))
    areas = {"alpha": 140 * 170, "beta": 160 * 190, "left": 100 * 180}
    for region, area in areas.items():
        share, error = found.regions[region]
        assert share == pytest.approx(area / 360**2, abs=0.025)  # 3 standard errors of 3000 torsions
        assert error == pytest.approx(np.sqrt(share * (1 - share) / 3000), rel=0.5)


def test_a_solvent_has_no_torsions():
    with pytest.raises(ValueError, match="no residue of `all` has both φ and ψ"):
        ramachandran(atoms("OHH", np.zeros((1, 3, 3))))


def test_dssp_tells_an_ideal_helix_from_a_strand():
    helix = secondary_structure(peptide(wrapped(shaken(HELIX_NM, 6, 0.0), TRICLINIC), TRICLINIC))
    # the first and the last residue of a chain have no turn on both sides
    assert np.all(helix.codes[:, 1:-1] == "H")
    assert helix.figures()["helix_fraction"].value == pytest.approx(10 / 12)
    lone_strand = secondary_structure(peptide(STRAND_NM[None]))
    assert np.all(lone_strand.codes == "C")  # a strand alone has no partner


def test_dssp_agrees_with_mdanalysis_on_lysozyme():
    from MDAnalysis.analysis.dssp import DSSP

    path = files("openmmtools") / "data" / "T4-lysozyme-L99A-implicit" / "receptor.pdb"
    trajectory = mdtraj.load(str(path))
    found = secondary_structure(trajectory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MDAnalysis, about what the file does not say
        theirs = "".join(DSSP(mda.Universe(str(path))).run().results.dssp[0]).replace("-", "C")
    same = np.mean(found.codes[0] == np.array(list(theirs)))
    assert same > 0.9  # theirs is pydssp, which knows neither bends nor 3-10 helices
    assert found.figures()["helix_fraction"].value == pytest.approx(theirs.count("H") / len(theirs), abs=0.06)


def test_one_helical_turn_that_melts_is_seen_in_time():
    frames = np.stack([HELIX_NM] * 10 + [STRAND_NM] * 30)
    found = secondary_structure(peptide(frames))
    helix = found.fractions()["helix"]
    assert np.all(helix[:10] > 0.8)
    assert np.all(helix[10:] == 0)
    assert found.curve().y[5] == pytest.approx(0.25)


def test_frames_read_in_chunks_give_what_frames_in_memory_give():
    cells = TRICLINIC * np.linspace(1.0, 1.1, 30)[:, None, None]  # a cell that grows
    moved = shaken(HELIX_NM, 30, 0.02)
    trajectory = peptide(np.stack([wrapped(*each) for each in zip(moved, cells, strict=True)]), cells)

    def chunks(which):
        for k in range(0, 30, 7):
            yield trajectory[k : k + 7] if which is None else trajectory[k : k + 7].atom_slice(which)

    in_chunks = Frames(trajectory.topology, trajectory.time.astype(float), cells, chunks)
    assert rmsd(in_chunks, "name CA").values == pytest.approx(rmsd(peptide(moved), "name CA").values, abs=1e-5)
    assert rmsf(in_chunks, "name CA").rmsf_nm == pytest.approx(rmsf(peptide(moved), "name CA").rmsf_nm, abs=1e-5)
    assert np.array_equal(secondary_structure(in_chunks).codes, secondary_structure(peptide(moved)).codes)
    assert ramachandran(in_chunks).density == pytest.approx(ramachandran(trajectory).density)


def test_names_of_results_are_fit_for_files():
    found = rmsd(peptide(HELIX_NM[None]), "resid < 5 and (name CA or name N)")
    assert found.name == "rmsd_resid_5_and_name_CA_or_name_N"
