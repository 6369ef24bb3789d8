"""Cores that this process gets: fewer than the machine has in a container, none for a while beside other programs."""

import contextlib
import logging
import math
import os
from pathlib import Path

import torch

log = logging.getLogger(__name__)
CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
OWN_THREADS = Path("/proc/self/task")


def limit_threads(cores: float) -> None:
    """Let torch have at most as many threads as there are `cores` for them, unless OMP_NUM_THREADS says how many.

    Docker's `--cpus`, Kubernetes and their like limit the time that a process may compute, not the cores that torch
    sees and counts: threads wait for others that have been stopped, and everything takes many times longer.
    """
    threads = torch.get_num_threads()
    if threads > max(cores, 1) and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(int(cores), 1))
        log.info(
            "%d threads instead of %d: this process may use %.3g of the cores here; OMP_NUM_THREADS gives others",
            torch.get_num_threads(),
            threads,
            cores,
        )


def allowed_cores(membership: Path = MEMBERSHIP, cgroups: Path = CGROUPS) -> float:
    """Cores' worth of time that the control groups of this process allow; infinity where nothing limits them.

    membership: the file that names the groups. cgroups: where they are found, of version 1 or 2.
    """
    if not membership.is_file():
        return math.inf
    limits = [math.inf]
    for line in membership.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or "cpu" in controllers.split(","):
            group = cgroups / controllers / path.lstrip("/")
            limits += [_limit(each) for each in (group, *group.parents)]  # a container may see its own as the root
    return min(limits)


def _limit(group: Path) -> float:
    files = [group / "cpu.max"], [group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us"]
    for version in files:
        if all(file.is_file() for file in version):
            quota, period = " ".join(file.read_text() for file in version).split()
            return math.inf if quota in ("max", "-1") else int(quota) / int(period)
    return math.inf


def seconds_on_cores() -> tuple[float, float]:
    """Seconds that the threads of this process have computed, and waited for a core; zeros where Linux does not say."""
    computed = waited = 0
    for file in OWN_THREADS.glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            times = [int(word) for word in file.read_text().split()]
            computed, waited = computed + times[0], waited + times[1]
    return computed / 1e9, waited / 1e9
