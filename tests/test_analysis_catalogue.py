"""Analyses by name: what a line of text asks for, and what is refused."""

import inspect
from types import NoneType, UnionType
from typing import get_args, get_origin

import numpy as np
import pytest
from trajectories import atoms

from openmm_allegro.analysis.catalogue import (
    CATALOGUE,
    HOW_TO_ASK,
    described,
    function_of,
    parameters_of,
    parse_request,
    run,
)
from openmm_allegro.analysis.frames import Frames
from openmm_allegro.analysis.rdf import radial_distribution

PLAIN = (str, int, float, bool)


def gas(n_frames=12):
    random = np.random.default_rng(1)
    xyz = random.uniform(0, 1.5, (n_frames, 9, 3))
    return atoms(["Li"] * 3 + ["S"] * 5 + ["P"], xyz, cell=1.5 * np.eye(3))


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_analysis_is_there_with_options_that_a_text_can_give(name):
    function = function_of(name)
    assert inspect.getdoc(function)
    for annotation in parameters_of(function).values():
        assert _plain(annotation), f"{name}: {annotation}"
    first = next(iter(inspect.signature(function).parameters))
    assert first == "frames"


def _plain(annotation):
    if annotation in (*PLAIN, NoneType, Ellipsis) or getattr(annotation, "__name__", "") == "Path":
        return True
    return get_origin(annotation) in (tuple, UnionType) and all(map(_plain, get_args(annotation)))


def test_options_have_the_types_of_the_function():
    request = parse_request("angles:triplet=S-P-S:cutoff_nm=0.27:n_blocks=2")
    assert request.name == "angles"
    assert request.options == {"triplet": ("S", "P", "S"), "cutoff_nm": 0.27, "n_blocks": 2}
    assert parse_request("msd:fit_window_ps=1,5").options == {"fit_window_ps": (1.0, 5.0)}
    assert parse_request("hydration:solute=name CA:per_atom=true").options == {"solute": "name CA", "per_atom": True}
    assert parse_request("conductivity:charges=1,-1:temperature_k=300").options == {
        "charges": (1.0, -1.0),
        "temperature_k": 300.0,
    }
    assert parse_request("rdf").options == {}
    assert parse_request("solvation:selections=Na-O-Cl:cutoff_nm=0.3").options["cutoff_nm"] == 0.3
    assert parse_request("solvation:selections=Na-O-Cl:cutoff_nm=0.3,0.4").options["cutoff_nm"] == (0.3, 0.4)
    assert parse_request("van_hove_self:lags_ps=0.5").options == {"lags_ps": (0.5,)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("vcaf", "there is no analysis `vcaf`; choose from rdf, "),
        ("rdf:pair", "`pair` in `rdf:pair` is not an option of `rdf`; write OPTION=VALUE with one of pair, r_max_nm"),
        ("rdf:cutoff=3", "`cutoff=3` in `rdf:cutoff=3` is not an option of `rdf`"),
        ("rdf:r_max_nm=wide", "`r_max_nm` of `rdf` is `wide`: Input should be a valid number"),
        ("angles:triplet=S-P", "`triplet` of `angles` is `S-P`; it takes 3 words with hyphens between them"),
        ("rdf:pair=Li-S-P", "`pair` of `rdf` is `Li-S-P`; it takes 2 words with hyphens"),
        ("rdf:r_max_nm=nan", "`r_max_nm` of `rdf` is `nan`; it must be a finite number"),
        ("hydration:shells_nm=0.3,inf", "`shells_nm` of `hydration` is `0.3,inf`; it must be a finite number"),
        ("rdf:n_blocks=-1", "`n_blocks` of `rdf` is -1; it must be 1 or more"),
        ("msd:fit_window_ps=1", "`fit_window_ps` of `msd` is `1`; it takes 2 numbers with commas between them"),
    ],
)
def test_a_request_that_cannot_be_read_is_told(text, words):
    with pytest.raises(ValueError, match=words):
        parse_request(text)


def test_a_missing_selection_is_asked_for():
    with pytest.raises(ValueError, match="`angles` needs `triplet`; write for example `angles:triplet=S-P-S`"):
        run(parse_request("angles"), Frames.of(gas()))


def test_without_a_choice_every_pair_of_elements_is_analysed():
    trajectory = gas()
    found = run(parse_request("rdf:r_max_nm=0.7"), Frames.of(trajectory))
    assert [result.name for result in found] == ["rdf_Li-Li", "rdf_Li-S", "rdf_Li-P", "rdf_S-S", "rdf_S-P"]  # one P
    direct = radial_distribution(trajectory, ("Li", "S"), r_max_nm=0.7)
    np.testing.assert_array_equal(found[1].g, direct.g)
    (one,) = run(parse_request("rdf:pair=S-Li:r_max_nm=0.7"), Frames.of(trajectory))
    assert one.name == "rdf_S-Li"


def test_without_a_choice_every_element_is_analysed():
    steps = np.random.default_rng(2).normal(scale=0.02, size=(40, 9, 3))
    trajectory = atoms(["Li"] * 3 + ["S"] * 5 + ["P"], np.cumsum(steps, axis=0), times=0.1 * np.arange(40))
    found = run(parse_request("non_gaussian"), Frames.of(trajectory))
    assert [result.name.rsplit("_", 1)[-1] for result in found] == ["Li", "S", "P"]


@pytest.mark.parametrize("name", CATALOGUE)
def test_examples_give_all_that_is_needed(name):
    asked = parse_request(f"{name}:{CATALOGUE[name].example}" if CATALOGUE[name].example else name)
    parameters = list(inspect.signature(function_of(name)).parameters.values())[1:]
    assert {each.name for each in parameters if each.default is inspect.Parameter.empty} <= set(asked.options)


def test_the_list_names_everything_once():
    how, lines = described().split("\n\n", 1)
    assert how == HOW_TO_ASK.rstrip()
    lines = lines.splitlines()
    names = [line.split(":")[0].split()[0] for line in lines if not line.startswith(" ")]
    assert names == list(CATALOGUE)
    assert "angles:triplet=S-P-S" in lines
    assert "msd  (every element, or one: msd:element=Li)" in lines
    assert "reference" not in described().split("rmsd", 1)[1].split("\n")[2]
