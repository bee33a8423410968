"""The signals that ask a training to save its state and end, and the exit statuses by which it says how it ended."""

from __future__ import annotations

import signal

# SIGTERM, and what clusters send before the time is up
LEAVE = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
RESUME_LATER = 75  # "temporary failure": start the same command again
INTERRUPTED = 130  # after Ctrl-C
