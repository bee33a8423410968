"""Edits of a run that keep its parts in agreement: chains of hashes and seals are made anew."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .project import module

records, traces = module("samebits.engine.record"), module("samebits.engine.trace_reader")
Row = dict[str, Any]


def rewrite(run: Path, change: Callable[[list[Row]], object]) -> None:
    """Change the rows of a trace, and everything that follows from them in trace and record."""
    rows = traces.read_trace(run / "trace.jsonl")
    change(rows)
    sha256 = hashlib.sha256()
    for row in rows:
        row["follows"] = sha256.hexdigest()[:16]
        sha256.update(f"{json.dumps(row)}\n".encode())
    (run / "trace.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    reseal(run, lambda record: record["outputs"]["trace"].update(sha256=sha256.hexdigest()))


def reseal(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the record and its seal, and metrics.json with it."""
    record = json.loads((run / "record.json").read_text())
    change(record)
    records.write_record(run, record)
    records.write_metrics(run / "metrics.json", record["outputs"]["metrics"])
