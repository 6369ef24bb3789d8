"""Of several processes one runs in a folder, and the others say which."""

import os
import subprocess
import sys

import pytest

from openmm_allegro.lammps.mpi_library import check_world
from openmm_allegro.simulation import run_lock

HOLD = (
    "import pathlib, sys, time; from openmm_allegro.simulation import run_lock\n"
    "with run_lock.held(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
)


def test_a_folder_is_held_until_its_process_dies(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        expected = rf"^process {process.pid} on .* is running in `{folder}`; wait until it ends or stop it"
        for _ in range(2):  # to be refused lets nothing go
            with pytest.raises(FileExistsError, match=expected), run_lock.held(folder):
                pass
        process.kill()
    with run_lock.held(folder):
        assert (folder / run_lock.LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert list(folder.iterdir()) == []


def test_folders_in_which_nothing_was_written_are_gone(tmp_path):
    with pytest.raises(ZeroDivisionError), run_lock.held(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with run_lock.held(tmp_path / "a" / "b"):
        (tmp_path / "a" / "kept").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["kept"]


@pytest.mark.parametrize("name", ["SLURM_STEP_NUM_TASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_tasks_that_do_not_find_each_other_are_refused(monkeypatch, name):
    monkeypatch.setenv(name, "64")
    with pytest.raises(ValueError, match=f"`{name}` says that 64 tasks .* by `srun --mpi=pmi2 -n 64` or by `mpiexec`"):
        check_world(1)
    check_world(64)
    monkeypatch.setenv(name, "1")
    check_world(1)
