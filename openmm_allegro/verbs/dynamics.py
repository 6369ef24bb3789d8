"""The verbs that run molecular dynamics, in OpenMM and in LAMMPS."""

from pathlib import Path
from typing import Annotated

import typer

from openmm_allegro.lammps.config import LammpsConfig
from openmm_allegro.simulation.config import SimulateConfig
from openmm_allegro.verbs.answers import answering
from openmm_allegro.verbs.flags import options_from
from openmm_allegro.verbs.options import AsJson


@options_from(SimulateConfig)
def simulate(
    config: Annotated[Path | None, typer.Argument(help="TOML file with any of the options below.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for trajectory, log, checkpoint and structures.")] = Path("run"),
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder; it needs no options.")
    ] = False,
    as_json: AsJson = False,
    **flags: object,
) -> None:
    """Run molecular dynamics with a model, in OpenMM.

    Every atom feels the model. Options come from the TOML file, flags on top of it. Without a pressure the box stays as
    it is (NVT); without friction there is no thermostat (NVE). A file may have [[stages]] that follow each other, such
    as melt and quench.

    \b
    Examples:
      openmm-allegro simulate --model water.safetensors --structure water.pdb --duration-ps 100 --output run
      openmm-allegro simulate water.toml --temperature-k 350 --pressure-bar 1 --output hot
      openmm-allegro simulate --resume --output hot
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.simulation.config import load_config
        from openmm_allegro.simulation.run import resume_config, simulate

        chosen = resume_config(output, config, flags) if resume else load_config(config, flags)
        answer(vars(simulate(chosen, output, resume)))


@options_from(LammpsConfig)
def lammps(
    config: Annotated[Path | None, typer.Argument(help="TOML file with any of the options below.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for input, trajectory, log and structures.")] = Path("run"),
    ranks: Annotated[
        int | None, typer.Option(help="MPI ranks to start; not given: one for each CUDA device, or one.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in the folder; it needs no options, and ranks may differ."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the input for LAMMPS and do not run it.")] = False,
    as_json: AsJson = False,
    **flags: object,
) -> None:
    """Run molecular dynamics with a model, in LAMMPS.

    On many cores, GPUs or machines. Options come from the TOML file, flags on top of it, and mean what they mean for
    simulate.
    LAMMPS divides the atoms among MPI ranks, one for each core or GPU, which it needs not be told on one machine. On
    several machines put mpiexec or srun --mpi=pmi2 before the command and leave out --ranks.
    A run that was stopped goes on from its last checkpoint by --resume: without thermostat as if it had not been
    stopped, to rounding; with one correctly, but with other random forces, which LAMMPS does not keep.

    \b
    Examples:
      openmm-allegro lammps --model water.safetensors --structure water.pdb --duration-ps 100 --ranks 4 --output run
      srun --mpi=pmi2 -n 64 openmm-allegro lammps water.toml --pressure-bar 1 --output run
      srun --mpi=pmi2 -n 64 openmm-allegro lammps --resume --output run
    """  # noqa: D301
    with answering(as_json) as answer:
        from openmm_allegro.lammps.config import load_config
        from openmm_allegro.lammps.launch import run_lammps
        from openmm_allegro.lammps.prepare import resume_config

        chosen = resume_config(output, config, flags) if resume else load_config(config, flags)
        result = run_lammps(chosen, output, ranks, dry_run, resume)
        if result is not None:
            answer(result)
