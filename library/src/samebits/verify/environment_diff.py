"""How two environments differ: what may be the cause of other results first, in words."""

from __future__ import annotations

import re
from typing import Any

from ..engine.loaded_code import changed_file
from .provenance_diff import NOTHING, Difference, differing

MOST_NAMES = 4  # that a row lists
ONLY_ONE_HAS = "packages that only one has"
INCIDENTAL = (
    *("system.os", "system.container", "processor.cores", "threads.between operations", ONLY_ONE_HAS),
    *("startup._virtualenv.pth", "loaded.site-packages/_virtualenv.py"),  # of how the environment was made
)
# kinds of what differs, the most telling first; loaded code as a sentence: where only the record has it, where it is
# here alone, and where both have it
LOADED = {
    "patched": (
        "{} was changed in its package where the run was trained; here it is as it was installed",
        "{} is not as its package was installed, nor as it was recorded",
        "{} is not as its package was installed, nor as it was recorded",
    ),
    "loaded": (
        "{} lay among the packages where the run was trained, and belonged to none; here it is missing",
        "{} lies among the packages and belongs to none; the run was trained without it",
        "{} is not what the run was trained with, though the package has the same version",
    ),
    "shadows": (
        "{} was shadowed by {} where the run was trained; here it is the installed one",
        "{} is shadowed by {}, which is imported in its place; not so where the run was trained",
        "{} is shadowed by {}; where the run was trained, it was {}",
    ),
    "bytecode": (
        "{}: the bytecode in its __pycache__, which ran where the run was trained, was not that of its source",
        "{}: the bytecode in its __pycache__, which runs here, is not that of its source: delete it",
        "{}: the bytecode in its __pycache__, which runs here, is not that of its source: delete it",
    ),
    "preloaded": (
        "{} was loaded before all other libraries (LD_PRELOAD) where the run was trained; not so here",
        "{} is loaded before all other libraries (LD_PRELOAD); not so where the run was trained",
        "{} is loaded before all other libraries (LD_PRELOAD), and is not the one that was recorded",
    ),
    "startup": (
        "{} was run by Python at its start where the run was trained; not so here",
        "{} is run by Python at its start; not so where the run was trained",
        "{} is run by Python at its start, and is not what was recorded",
    ),
}
OTHERS = ("packages", "threads", "flags", "processor.model", "gpu", "variables", "libraries", "stdlib", "objects")


def environment_differences(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """List how two environments differ, the most telling first; packages that only one of them has make one line."""
    apart = ("loaded", "stdlib", "objects")
    found = [*_loaded_differences(one, other), *_common("stdlib", one, other), *_common("objects", one, other)]
    for name, *values in differing(*({key: side[key] for key in side if key not in apart} for side in (one, other))):
        if "{}" in values or (name.startswith("packages.") and NOTHING in values):
            continue
        mine, theirs = (value[:12] if re.fullmatch("[0-9a-f]{64}", value) else value for value in values)
        found.append((name, mine, theirs))
    a, b = (side.get("packages", {}).keys() for side in (one, other))
    if a != b:
        found.append((ONLY_ONE_HAS, _short(sorted(a - b)), _short(sorted(b - a))))
    order = (*LOADED, *OTHERS)
    return sorted(found, key=lambda row: next((i for i, key in enumerate(order) if row[0].startswith(key)), 99))


def _loaded_differences(one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """Compare packages by content: those of the same version that both have loaded, and modules that are of none."""
    found = []
    for name, mine, theirs in _differing("loaded", one, other):
        mine_short, theirs_short = (value.split()[2][:12] if value else NOTHING for value in (mine, theirs))
        a, b = (side.get("packages", {}).get(name) for side in (one, other))
        if name.startswith("site-packages/"):
            found.append((f"loaded.{name}", mine_short, theirs_short))
        elif mine and theirs and a == b:
            file = changed_file(name, mine, theirs)
            if file or all(name not in side.get("shadows", {}) for side in (one, other)):  # which says it, else
                found.append((f"loaded.{file or f'{name} (several files)'}", mine_short, theirs_short))
    return found


def _differing(key: str, one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, str | None, str | None]]:
    """List the names in a part of two environments whose values differ; None for one that is missing."""
    mine, theirs = one.get(key, {}), other.get(key, {})
    return [
        (name, mine.get(name), theirs.get(name))
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]


def _common(key: str, one: dict[str, Any], other: dict[str, Any]) -> list[Difference]:
    """Compare what both have loaded of a part; many, as of another build of Python, make one line."""
    found = [(f"{key}.{name}", a[:12], b[:12]) for name, a, b in _differing(key, one, other) if a and b]
    if len(found) <= MOST_NAMES:
        return found
    return [(key, "as recorded", f"others: {_short([name.partition('.')[2] for name, *_ in found])}")]


def environment_causes(environment: list[Difference]) -> list[str]:
    """Say what differs in the code that was loaded, each as a sentence, the likeliest cause first."""
    found = []
    for name, mine, theirs in environment:
        kind, _, what = name.partition(".")
        if kind in LOADED and name not in INCIDENTAL:
            which = 0 if theirs == NOTHING else 1 if mine == NOTHING else 2
            values = (mine,) if which == 0 else (theirs, mine)
            found.append(LOADED[kind][which].format(what, *values))
    return found


def _short(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) + more) or NOTHING


def may_change_results(environment: list[Difference]) -> bool:
    """Whether something differs in the environment that is not incidental to the arithmetic."""
    return any(name not in INCIDENTAL for name, *_ in environment)
