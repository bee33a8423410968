"""Reads files of runs, which anybody may have written: JSON and YAML no larger or deeper than ours, and no links."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from .files import opened
from .project import project

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_JSON, DEEPEST = 2**28, 64  # bytes, and levels, of a JSON file of a run; ours have far less of both


def load_json(path: Path) -> Any:
    """Read a JSON file, which may be anybody's; a ValueError where it is none, or too large or deep for ours."""
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON:,} bytes")
        content = file.read()
    with suppress(RecursionError):
        found = json.loads(content)
        if not _deeper(found, DEEPEST):
            return found
    raise ValueError("it is nested too deeply")


def _deeper(value: Any, levels: int) -> bool:
    each = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _deeper(one, levels - 1) for one in each)


def leads_out(path: Path) -> bool:
    """Whether a file of a run is a link to one that is neither in its folder nor in the project, and may be private."""
    places = (path.parent, project().root) if path.is_symlink() else ()
    real = Path(os.path.realpath(path))  # of a link to itself, too
    return bool(places) and not any(real.is_relative_to(place.resolve()) for place in places)


def read_yaml(path: Path) -> str:
    """Read the text of a run's settings; a ValueError where it is larger than its file, by aliases, or too deep."""
    text, depth = path.read_text(encoding="utf-8"), 0
    for event in yaml.parse(text, LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEEPEST:
            raise ValueError(f"line {event.start_mark.line + 1} is nothing that a training writes")
    return text
