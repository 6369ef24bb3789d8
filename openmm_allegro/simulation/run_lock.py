"""One run at a time in a folder: a lock that also goes when its process dies, on any machine that shares the folder."""

import contextlib
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

LOCK = "run.lock"
"""Says who holds it; there while a run goes on, and after a kill."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be and left again if nothing was written, or say which process holds it."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    try:
        file = _locked(path)
        try:
            os.truncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
            yield
        finally:
            path.unlink(missing_ok=True)  # before it is let go, so that nobody holds one that is not there
            os.close(file)
    finally:
        with contextlib.suppress(OSError):  # not empty
            for each in made:
                each.rmdir()


def _locked(path: Path) -> int:
    """A descriptor of the file, locked and still the one of that name."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 1000).decode() or "another process"
            os.close(file)
            raise FileExistsError(
                f"{holder} is running in `{path.parent}`; wait until it ends or stop it, or choose another folder"
            ) from None
        except OSError as error:  # some file systems of clusters have no locks
            warnings.warn(
                f"`{path.parent}` cannot be locked ({error.strerror}); see to it that no other process runs in it",
                stacklevel=2,
            )
            return file
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        os.close(file)  # the one before took it away meanwhile
