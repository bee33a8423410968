"""How a command ends: the error that users are meant to see, signals and exit statuses, lines of progress."""

from __future__ import annotations

import re
import signal
from importlib.util import find_spec


class UserError(Exception):
    """A mistake that the user can mend: its text says in one sentence what is wrong, where, and what mends it."""


# SIGTERM, and what clusters send before the time is up
STOP_SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
RESUME_LATER = 75  # "temporary failure": start the same command again
INTERRUPTED = 130  # after Ctrl-C

PROGRESS_SECONDS = "PROGRESS_SECONDS"  # environment variable: the least time between two lines
PROGRESS_FORM = "epoch {epoch} of {epochs}, batch {batch} of {batches}: {metrics}"
PROGRESS_LINE = re.compile(
    r"epoch (?P<epoch>\d+) of (?P<epochs>\d+), batch (?P<batch>\d+) of (?P<batches>\d+): (?P<metrics>.*)"
)


def part_done(line: re.Match[str]) -> float:
    """Say how much of a training is done, from 0 to 1, by a match of LINE."""
    epoch, epochs, batch, batches = (int(line[name]) for name in ("epoch", "epochs", "batch", "batches"))
    return (epoch - 1 + batch / max(1, batches)) / max(1, epochs)


def require_packages(extra: str, *packages: str) -> None:
    """Refuse to go on without packages that only some commands need.

    Args:
        extra: of the distribution, which names them; in a project of repro-template's, the lock dev.txt has all these.
        packages: by the names that are imported.

    Raises:
        UserError: one is not installed.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise UserError(
            f"this needs {' and '.join(missing)}, not installed here: run `make setup EXTRAS=dev`, or where there is no"
            f" such target, `pip install 'samebits[{extra}]'`."
        )
