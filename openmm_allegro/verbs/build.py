"""The verb `build`: systems to start from, one command for each kind."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from openmm_allegro.outputs import check_new_outputs
from openmm_allegro.verbs.answers import answering
from openmm_allegro.verbs.counts import number_in, replacements, vacancies
from openmm_allegro.verbs.options import AsJson

if TYPE_CHECKING:
    from openmm_allegro.systems.water import System

build = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Build a system to start from.\n\nIt is written as PDBx/mmCIF or PDB, with extended XYZ beside it.",
    epilog="`openmm-allegro build KIND --help` explains a kind of system and shows an example.",
)
Output = Annotated[Path, typer.Option(help="File to write, .cif (PDBx/mmCIF) or .pdb; extended XYZ goes beside it.")]
Seed = Annotated[int, typer.Option(help="Of everything that is drawn.", min=0, max=2**31 - 2)]
RelaxPs = Annotated[
    float,
    typer.Option(help="Minimise and run so long with Amber14 and TIP3P at 300 K; 10 let water find its places.", min=0),
]
RMax = Annotated[float | None, typer.Option(help="Refuse a box narrower than twice this cutoff [Å].", min=0.1)]
Salt = Annotated[str | None, typer.Option(help="Formula of a salt, such as LiPF6, NaCl or Ca(TFSI)2.")]
Supercell = Annotated[tuple[int, int, int], typer.Option(help="Conventional cells along each vector.")]
Vacancy = Annotated[list[str] | None, typer.Option(help="Atoms to take away, such as Li:2; may be given again.")]
Replace = Annotated[list[str] | None, typer.Option(help="Atoms to replace, such as Zr:Ta:2; may be given again.")]
BOX = Path("box.cif")
ARGUMENTS = "edge_nm salt molal molar formula_units base_nm charged miller layers repeat vacuum_angstrom repair"
OPTIONS = {name: f"`--{name.replace('_', '-')}`" for name in ARGUMENTS.split()} | {
    "padding_nm": "`--padding-nm`",
    "n_molecules": "`--molecules`",
    "density_g_per_cm3": "`--density`",
    "supercell": "`--supercell`",
}
"""What the command line calls the arguments of the builders."""


@build.command()
def water(
    molecules: Annotated[int | None, typer.Option(help="Number of molecules; or give --edge-nm.")] = None,
    edge_nm: Annotated[float | None, typer.Option(help="Edge of the cube [nm]; or give --molecules.")] = None,
    density: Annotated[float, typer.Option(help="[g/cm³]")] = 0.997,
    output: Output = BOX,
    seed: Seed = 0,
    relax_ps: RelaxPs = 0.0,
    r_max: RMax = None,
    as_json: AsJson = False,
) -> None:
    """A cube of liquid water, cut from an equilibrated one.

    \b
    Example:
      openmm-allegro build water --molecules 64 --relax-ps 10 --output water.pdb
    """  # noqa: D301
    with answering(as_json) as answer, _named_as_options():
        _check_files(output)
        from openmm_allegro.systems.files import write_system
        from openmm_allegro.systems.water import water_box

        system = water_box(molecules, edge_nm=edge_nm, density_g_per_cm3=density, seed=seed)
        answer(write_system(_at_rest(system, relax_ps, seed, not as_json), output, r_max)._asdict())


@build.command()
def liquid(
    solvents: Annotated[list[str], typer.Argument(help="Solvents: water, EC, PC, DMC, EMC, DEC, or SMILES.")],
    molecules: Annotated[int, typer.Option(help="Molecules of all solvents together.", min=1)] = 100,
    parts: Annotated[str | None, typer.Option(help="Their proportions, such as 3:7; equal when not given.")] = None,
    by: Annotated[Literal["mole", "mass"], typer.Option(help="What the proportions are of.")] = "mole",
    salt: Salt = None,
    molal: Annotated[float | None, typer.Option(help="Salt, mol in a kilogram of solvent.")] = None,
    molar: Annotated[float | None, typer.Option(help="Salt, mol in a litre of the whole.")] = None,
    formula_units: Annotated[int | None, typer.Option(help="Salt, number of formula units.")] = None,
    density: Annotated[float | None, typer.Option(help="[g/cm³]; of ideal mixing when not given.")] = None,
    base_nm: Annotated[
        tuple[float, float] | None, typer.Option(help="Two lengths of the box [nm], to stand on a slab.")
    ] = None,
    output: Output = BOX,
    seed: Seed = 0,
    relax_ps: RelaxPs = 0.0,
    r_max: RMax = None,
    as_json: AsJson = False,
) -> None:
    """Solvents, mixtures, electrolytes and salt water.

    Molecules are packed at random without overlap; minimise before dynamics.

    \b
    Examples:
      openmm-allegro build liquid EC EMC --parts 3:7 --by mass --salt LiPF6 --molal 1 --molecules 100
      openmm-allegro build liquid water --salt NaCl --molar 1 --molecules 200 --output brine.cif
    """  # noqa: D301
    with answering(as_json) as answer, _named_as_options():
        _check_files(output)
        from openmm_allegro.systems.files import write_system
        from openmm_allegro.systems.liquid import liquid

        system = liquid(
            solvents,
            molecules,
            parts=None if parts is None else [number_in(each, "parts", parts) for each in parts.split(":")],
            by=by,
            salt=salt,
            molal=molal,
            molar=molar,
            formula_units=formula_units,
            density_g_per_cm3=density,
            base_nm=base_nm,
            seed=seed,
        )
        answer(write_system(_at_rest(system, relax_ps, seed, not as_json), output, r_max)._asdict())


@build.command()
def crystal(
    name: Annotated[str, typer.Argument(help="Name of a crystal (a wrong one lists them), or a CIF file.")],
    supercell: Supercell = (1, 1, 1),
    vacancy: Vacancy = None,
    replace: Replace = None,
    charged: Annotated[bool, typer.Option("--charged", help="Accept that vacancies leave a charge.")] = False,
    output: Output = BOX,
    seed: Seed = 0,
    r_max: RMax = None,
    as_json: AsJson = False,
) -> None:
    """A crystal, also with vacancies and dopants.

    Whole conventional cells; partial occupancies are drawn, vacancies and dopants placed at random.

    \b
    Examples:
      openmm-allegro build crystal li3po4-gamma --supercell 1 2 2 --output li3po4.cif
      openmm-allegro build crystal llzo-cubic --replace Zr:Ta:2 --vacancy Li:2
    """  # noqa: D301
    with answering(as_json) as answer, _named_as_options():
        _check_files(output, name)
        from openmm_allegro.systems.crystal import crystal
        from openmm_allegro.systems.files import system_of_atoms, write_system

        atoms = crystal(
            name, supercell, vacancies=vacancies(vacancy), replace=replacements(replace), charged=charged, seed=seed
        )
        answer(write_system(system_of_atoms(atoms), output, r_max)._asdict())


@build.command()
def slab(
    name: Annotated[str, typer.Argument(help="Name of a crystal (a wrong one lists them), or a CIF file.")],
    miller: Annotated[tuple[int, int, int], typer.Option(help="Miller indices of the face.")] = (1, 0, 0),
    layers: Annotated[int, typer.Option(help="Conventional cells across the slab.", min=1)] = 3,
    repeat: Annotated[tuple[int, int], typer.Option(help="Copies in the plane.")] = (1, 1),
    vacuum_angstrom: Annotated[float, typer.Option(help="Vacuum between the slab and its image [Å].", min=0)] = 15.0,
    output: Output = BOX,
    seed: Seed = 0,
    r_max: RMax = None,
    as_json: AsJson = False,
) -> None:
    """A slab of a crystal with a face up, of its composition.

    \b
    Example:
      openmm-allegro build slab li --miller 1 0 0 --layers 5 --repeat 6 6 --output li100.cif
    """  # noqa: D301
    with answering(as_json) as answer, _named_as_options():
        _check_files(output, name)
        from openmm_allegro.systems.crystal import crystal
        from openmm_allegro.systems.files import system_of_atoms, write_system
        from openmm_allegro.systems.slab import slab

        atoms = slab(crystal(name, seed=seed), miller, layers, repeat=repeat, vacuum_angstrom=vacuum_angstrom)
        answer(write_system(system_of_atoms(atoms), output, r_max)._asdict())


@build.command()
def stack(
    lower: Annotated[Path, typer.Argument(help="Structure file with a box.")],
    upper: Annotated[Path, typer.Argument(help="Structure file with a box of nearly the same base.")],
    gap_nm: Annotated[float, typer.Option(help="Between the two, and to the next image [nm].", min=0)] = 0.2,
    max_strain: Annotated[float, typer.Option(help="Largest relative change of the upper base.", min=0)] = 0.05,
    output: Output = BOX,
    r_max: RMax = None,
    as_json: AsJson = False,
) -> None:
    """An interface: one system on the other, strained to its base.

    \b
    Example:
      openmm-allegro build stack li100.cif electrolyte.cif --output interface.cif
    """  # noqa: D301
    with answering(as_json) as answer, _named_as_options():
        _check_files(output, lower, upper)
        from openmm_allegro.systems.files import read_system, write_system
        from openmm_allegro.systems.slab import stack

        system = stack(read_system(lower), read_system(upper), gap_nm=gap_nm, max_strain=max_strain)
        answer(write_system(system, output, r_max)._asdict())


@build.command()
def solvated(
    path: Annotated[Path, typer.Argument(help="Structure file of a peptide or protein.")],
    padding_nm: Annotated[float, typer.Option(help="Least distance of the solute from its images [nm].")] = 1.0,
    salt: Annotated[str, typer.Option(help="Of single charges, such as NaCl.")] = "NaCl",
    molar: Annotated[float, typer.Option(help="Its concentration, beside what neutralises [mol/L].", min=0)] = 0.0,
    ph: Annotated[float, typer.Option(help="By which hydrogens are added.")] = 7.0,
    repair: Annotated[bool, typer.Option("--repair", help="Add missing atoms by PDBFixer.")] = False,
    output: Output = BOX,
    seed: Seed = 0,
    relax_ps: RelaxPs = 0.0,
    r_max: RMax = None,
    as_json: AsJson = False,
) -> None:
    """A peptide or protein in neutral salt water.

    The water starts too light: let a barostat find its density.

    \b
    Example:
      openmm-allegro build solvated protein.pdb --molar 0.15 --repair --output solvated.cif
    """  # noqa: D301
    with answering(as_json) as answer, _named_as_options():
        _check_files(output, path)
        from openmm_allegro.systems.files import write_system
        from openmm_allegro.systems.solvated import solvated

        system = solvated(path, padding_nm=padding_nm, salt=salt, molar=molar, ph=ph, repair=repair, seed=seed)
        answer(write_system(_at_rest(system, relax_ps, seed, not as_json), output, r_max)._asdict())


@build.command()
def openmmtools(
    name: Annotated[str, typer.Argument(help="Class of openmmtools.testsystems (a wrong one lists them).")],
    output: Output = BOX,
    r_max: RMax = None,
    as_json: AsJson = False,
) -> None:
    """A test system of openmmtools.

    \b
    Example:
      openmm-allegro build openmmtools AlanineDipeptideExplicit --output dipeptide.cif
    """  # noqa: D301
    with answering(as_json) as answer, _named_as_options():
        _check_files(output)
        from openmm_allegro.systems.files import write_system
        from openmm_allegro.systems.openmmtools_systems import openmmtools_system

        answer(write_system(openmmtools_system(name), output, r_max)._asdict())


@contextmanager
def _named_as_options() -> Iterator[None]:
    """What a builder refuses names the options of its command, not the arguments of its function."""
    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(r"`(\w+)`", lambda found: OPTIONS.get(found[1], found[0]), str(error))) from error


def _check_files(output: Path, *inputs: Path | str) -> None:
    """That neither of the two files is there already."""
    check_new_outputs([output, output.with_suffix(".extxyz")], inputs)


def _at_rest(system: "System", ps: float, seed: int, progress: bool) -> "System":
    """After so much classical dynamics, if any."""
    if ps == 0:
        return system
    from openmm_allegro.systems.relaxation import relaxed

    return relaxed(system, ps, seed=seed, progress=progress)
