"""What a run that has not finished has spent, as `compute.Compute` notes it; kept apart because it needs no PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COMPUTE = "compute.json"  # of a run that has not finished; afterwards the record holds it


def read(path: Path) -> dict[str, Any]:
    """Read the file; empty where nothing is noted."""
    try:
        noted = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in noted.items() if value is not None} if isinstance(noted, dict) else {}
