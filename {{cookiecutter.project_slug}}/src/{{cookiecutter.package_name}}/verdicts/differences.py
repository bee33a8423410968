"""How two settings, two environments, two sets of files or metrics differ."""

from __future__ import annotations

from typing import Any

NOTHING = "—"  # where one side has no value
Difference = tuple[str, str, str]  # name, value of the one, value of the other


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested dicts to one with dotted keys; lists are values."""
    if not isinstance(value, dict) or not value:
        return {prefix: value} if prefix else {}
    found: dict[str, Any] = {}
    for key, each in value.items():
        found |= flat(each, f"{prefix}.{key}" if prefix else str(key))
    return found


def differing(one: Any, other: Any) -> list[Difference]:
    """List what differs between two nested dicts: name, value of the one, value of the other."""
    mine, theirs = flat(one), flat(other)
    names = [name for name in {**mine, **theirs} if mine.get(name, NOTHING) != theirs.get(name, NOTHING)]
    return [(name, str(mine.get(name, NOTHING)), str(theirs.get(name, NOTHING))) for name in names]


def files(one: dict[str, str], other: dict[str, str]) -> list[Difference]:
    """List what differs between two sets of files, by their sha256: changed, missing or added in the other."""
    names = sorted(name for name in one | other if one.get(name) != other.get(name))
    return [(name, one.get(name, NOTHING)[:12], other.get(name, NOTHING)[:12]) for name in names]
