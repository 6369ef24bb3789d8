"""Threads where a container may use fewer cores than the machine has."""

import logging
import logging.handlers
import math
import multiprocessing
import os
import queue
import threading
import time

import pytest
import torch

from openmm_allegro.cores import allowed_cores, limit_threads, seconds_on_cores
from openmm_allegro.training.busy_cores import BusyCores

GROUPS = {
    "docker with version 2": ("0::/\n", {"cpu.max": "400000 100000\n"}, 4.0),
    "version 2 without a limit": ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
    "a service in a limited slice": (
        "0::/user.slice/session.scope\n",
        {"user.slice/cpu.max": "150000 100000\n", "user.slice/session.scope/cpu.max": "max 100000\n"},
        1.5,
    ),
    "docker with version 1": (
        "5:memory:/docker/1f\n4:cpu,cpuacct:/docker/1f\n0::/\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        2.5,
    ),
    "version 1 without a limit": (
        "4:cpu,cpuacct:/\n",
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
        math.inf,
    ),
    "limits of the memory alone": ("5:memory:/a\n", {"memory/a/memory.limit_in_bytes": "1\n"}, math.inf),
}
"""What /proc/self/cgroup says, the files of the groups as the kernel documents them, and the cores."""


@pytest.mark.parametrize("case", GROUPS)
def test_cores_are_those_of_the_tightest_group(tmp_path, case):
    membership, files, cores = GROUPS[case]
    (tmp_path / "cgroup").write_text(membership)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    assert allowed_cores(tmp_path / "cgroup", tmp_path / "groups") == cores


def test_systems_without_groups_have_no_limit(tmp_path):
    assert allowed_cores(tmp_path / "none", tmp_path) == math.inf


@pytest.fixture
def four_threads(monkeypatch):
    """Torch with four threads that nobody asked for."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "threads"), [(2.5, 2), (4.0, 4), (0.5, 1), (math.inf, 4)])
def test_threads_are_no_more_than_cores(four_threads, caplog, cores, threads):
    with caplog.at_level(logging.INFO, "openmm_allegro"):
        limit_threads(cores)
    assert torch.get_num_threads() == threads
    assert ("threads instead of 4" in caplog.text) == (threads < 4)


def test_threads_that_the_user_asked_for_stay(four_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    limit_threads(2.0)
    assert torch.get_num_threads() == 4


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux tells how long threads wait")
def test_training_tells_of_threads_that_wait_for_each_other():
    """Two threads on one core: half of the time, and more beside other programs."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    child = spawn.Process(target=_two_busy_threads, args=(there,), daemon=True)
    child.start()
    (computed, waited), words = here.recv()
    child.join()
    assert waited > 0.3 * (computed + waited)
    assert len(words) == 1  # once, not with each look
    assert "the 2 threads of this run waited" in words[0]
    assert "`run.num_threads = 1`" in words[0]


def _two_busy_threads(answer):
    words = queue.SimpleQueue()
    logging.getLogger("openmm_allegro").addHandler(logging.handlers.QueueHandler(words))
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(2)
    before = seconds_on_cores()
    watcher = BusyCores(seconds_between_looks=0.5)
    watcher.on_train_start(None, None)
    until = time.monotonic() + 3
    threads = [threading.Thread(target=_compute, args=(until,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        time.sleep(0.6)
        watcher.on_train_batch_end(None, None, None, None, 0)
    answer.send(  # before the threads end, which are counted no longer then
        (
            [after - first for after, first in zip(seconds_on_cores(), before, strict=True)],
            [words.get().getMessage() for _ in range(words.qsize())],
        )
    )


def _compute(until):
    numbers = torch.ones(100, 100)  # too small for more threads of its own
    while time.monotonic() < until:
        numbers @ numbers
