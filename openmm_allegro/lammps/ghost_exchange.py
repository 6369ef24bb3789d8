"""Whose atoms the ghosts of a rank are, and how the forces on them come home.

LAMMPS gives each rank its own atoms and ghosts of those around them, and calls a Python force after its own exchange of
forces, so this is ours: each rank sends the forces on ghosts to the ranks that own the atoms.

Symbols used in this file
    n  own atoms        m  places: the own atoms, then the ghosts        p  ranks
    d  atoms: the own ones, then the others that ghosts are copies of, grouped by the rank that owns them
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mpi4py import MPI

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


class GhostExchange:
    """The plan of one rank, made anew when LAMMPS has moved atoms between ranks."""

    def __init__(self, communicator: "MPI.Intracomm") -> None:
        self.communicator = communicator
        self.size = communicator.Get_size()
        self.tags = np.zeros(0, dtype=np.int64)
        """Of the places (m,) that the plan was made for."""
        self.n_own = -1
        self.atoms = np.zeros(0, dtype=np.int64)
        """Which of the d atoms each place shows, (m,)."""
        self.numbers = np.zeros(0, dtype=np.int64)
        """Tags of the d atoms."""
        self.n_sent = np.zeros(self.size, dtype=np.int64)
        """Atoms whose forces go to each rank, (p,)."""
        self.n_received = np.zeros(self.size, dtype=np.int64)
        """Atoms whose forces come from each rank, (p,)."""
        self.received = np.zeros(0, dtype=np.int64)
        """Which own atoms those are, one rank after another."""

    def follow(self, tags: NDArray[np.integer], n_own: int) -> None:
        """Make a plan if any rank needs another one; all ranks call it. tags: (m,), the own atoms first."""
        changed = n_own != self.n_own or not np.array_equal(tags, self.tags)
        if self.size > 1:
            changed = self.largest(int(changed)) > 0
        if changed:
            self.plan(tags.astype(np.int64), n_own)

    def plan(self, tags: Integers, n_own: int) -> None:
        """Find the owners of the ghosts and tell them; all ranks call it. tags: (m,)."""
        self.tags, self.n_own = tags, n_own
        own = tags[:n_own]
        by_tag = np.argsort(own)
        others, place = np.unique(tags[n_own:], return_inverse=True)
        ours = np.isin(others, own)
        owners = self.owners(own, others[~ours])
        by_owner = np.argsort(owners, kind="stable")
        foreign = others[~ours][by_owner]
        atom = np.empty(len(others), dtype=np.int64)
        atom[ours] = by_tag[np.searchsorted(own, others[ours], sorter=by_tag)]
        atom[np.flatnonzero(~ours)[by_owner]] = n_own + np.arange(len(foreign))
        self.atoms = np.concatenate((np.arange(n_own), atom[place]))
        self.numbers = np.concatenate((own, foreign))
        self.n_sent = np.bincount(owners, minlength=self.size)
        wanted, self.n_received = self.to_ranks(foreign, self.n_sent)
        self.received = by_tag[np.searchsorted(own, wanted, sorter=by_tag)]

    def owners(self, own: Integers, tags: Integers) -> Integers:
        """The rank that owns each of some atoms, which rank `tag % p` has been told."""
        if self.size == 1:
            return np.zeros(0, dtype=np.int64)  # all ghosts are images of own atoms
        home = np.argsort(own % self.size, kind="stable")
        known, n_known = self.to_ranks(own[home], np.bincount(own % self.size, minlength=self.size))
        by_tag = np.argsort(known)
        asking = np.argsort(tags % self.size, kind="stable")
        n_asked = np.bincount(tags % self.size, minlength=self.size)
        asked, n_answered = self.to_ranks(tags[asking], n_asked)
        owner = np.repeat(np.arange(self.size), n_known)
        answers, _ = self.to_ranks(owner[by_tag[np.searchsorted(known, asked, sorter=by_tag)]], n_answered)
        owners = np.empty(len(tags), dtype=np.int64)
        owners[asking] = answers
        return owners

    def to_ranks(self, values: Integers, counts: Integers) -> tuple[Integers, Integers]:
        """Send each rank the next so many (p,) of the values; returns what came, by rank, and how many from each."""
        from mpi4py import MPI

        back = np.empty_like(counts)
        self.communicator.Alltoall([counts, MPI.INT64_T], [back, MPI.INT64_T])
        received = np.empty(int(back.sum()), dtype=np.int64)
        self.communicator.Alltoallv([values, counts, MPI.INT64_T], [received, back, MPI.INT64_T])
        return received, back

    def largest(self, value: int) -> int:
        """The largest of the ranks' values; all ranks call it."""
        from mpi4py import MPI

        return self.communicator.allreduce(value, MPI.MAX)

    def bring_home(self, forces: NDArray[np.floating]) -> Floats:
        """Add what other ranks found on the own atoms; all ranks call it. forces: (d, 3). Returns (n, 3)."""
        total = forces[: self.n_own].astype(np.float64)
        requests = []
        ends, starts = np.cumsum(self.n_received), np.cumsum(self.n_received) - self.n_received
        incoming = np.empty((len(self.received), 3), dtype=forces.dtype)
        for rank in np.flatnonzero(self.n_received):
            requests.append(self.communicator.Irecv(incoming[starts[rank] : ends[rank]], int(rank)))
        sent_to = self.n_own + np.cumsum(self.n_sent)
        for rank in np.flatnonzero(self.n_sent):
            part = forces[sent_to[rank] - self.n_sent[rank] : sent_to[rank]]
            requests.append(self.communicator.Isend(part, int(rank)))
        for request in requests:
            request.Wait()
        for rank in np.flatnonzero(self.n_received):  # always in this order, so that a run can be repeated
            here = slice(starts[rank], ends[rank])
            total[self.received[here]] += incoming[here]
        return total
