"""One process at a time in a run's directory."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError

BUSY = "is being trained by"


@contextmanager
def only_process(path: Path, what: Path) -> Iterator[None]:
    """Hold a lock that the system takes back when the process ends, however it ends.

    A lock of the process (POSIX, `lockf`), which unlike one of the file (`flock`) does not live on in the processes
    that load data; it holds across containers and, where the file system supports it, across machines.

    Args:
        path: the lock's own file, which stays.
        what: is being locked, for the message.

    Raises:
        UserError: another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(
                    f"{what} {BUSY} {holder}: wait until it has ended, or stop it and start this again."
                ) from None
            print(f"warning: {path.parent} cannot be locked ({error.strerror}): start no run twice.", file=sys.stderr)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
