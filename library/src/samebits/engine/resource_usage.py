"""What a training costs in time, memory and energy: how it is measured, and the file that sums up all starts of a run.

It needs no PyTorch; the callback that measures while a run trains is callbacks.ResourceUsage.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

COMPUTE = "compute.json"  # of a run that has not finished; afterwards the record holds it
COUNTERS = Path("/sys/class/powercap")  # of Intel and AMD processors, in microjoules; readable by root alone on many


def read_usage(path: Path) -> dict[str, Any]:
    """Read the file; empty where nothing is written."""
    try:
        usage = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in usage.items() if value is not None} if isinstance(usage, dict) else {}


def counters() -> dict[str, float]:
    """Read the clocks of this process and its children, in seconds, and the processor's energy, in joules."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in usage)
    return {"wall_seconds": time.monotonic(), "cpu_seconds": cpu, "joules": energy()}


def energy() -> float:
    """Read the processor's counter of energy, in joules; 0.0 where there is none, or none that may be read."""
    try:
        found = COUNTERS.glob("intel-rapl:[0-9]*/energy_uj")
        return sum(int(each.read_text()) for each in found if each.parent.name.count(":") == 1) / 1e6
    except OSError:
        return 0.0


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def now() -> str:
    """Return the time: ISO 8601, UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
