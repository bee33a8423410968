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
# what is said of loaded code that differs: the kinds in the environment, the most telling first
LOADED = {
    "patched": "is not as its package was installed",
    "shadows": "is shadowed by {}, which is imported in its place",
    "loaded": "differs, though its package has the same version",
    "bytecode": "has bytecode in its __pycache__ that is not that of its source, and is what runs",
    "preloaded": "is loaded before all other libraries (LD_PRELOAD)",
    "startup": "is run by Python at its start",
}
LOOSE = "lies among the packages and belongs to none"
OTHERS = (
    "asked",
    "packages",
    "threads",
    "flags",
    "processor.model",
    "gpu",
    "variables",
    "libraries",
    "stdlib",
    "objects",
)


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


def in_words(environment: list[Difference]) -> list[Difference]:
    """Write out what a record has in short of variables that were asked for and of folders that were listed."""

    def word(kind: str, value: str) -> str:
        if kind == "asked":
            return f"set, hash {value}.." if re.fullmatch("[0-9a-f]{2}", value) else value
        names, _, order = value.partition(" ")
        return f"names {names}, order {order}" if order else value

    labels = {"asked": "variable", "listed": "listed folder"}
    return [
        (f"{labels[kind]} {rest}", word(kind, mine), word(kind, theirs)) if kind in labels else (name, mine, theirs)
        for name, mine, theirs in environment
        for kind, _, rest in [name.partition(".")]
    ]


def environment_causes(environment: list[Difference]) -> list[str]:
    """Say what differs in the code that was loaded, each as a sentence, the likeliest cause first."""
    found = []
    for name, mine, theirs in environment:
        kind, _, what = name.partition(".")
        if kind not in LOADED or name in INCIDENTAL:
            continue
        said = LOOSE if what.startswith("site-packages/") else LOADED[kind]
        if theirs == NOTHING:
            found.append(f"where the run was trained, {what} {said.format(mine)}; not so here")
        else:
            elsewhere = "not so where the run was trained" if mine == NOTHING else f"recorded is {mine}, here {theirs}"
            found.append(f"{what} {said.format(theirs)}; {elsewhere}")
    return found


def _short(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(names[:MOST_NAMES]) + more) or NOTHING


def may_change_results(environment: list[Difference]) -> bool:
    """Whether something differs in the environment that is not incidental to the arithmetic.

    What only one of the trainings has asked for or listed is what it did, and no reason.
    """
    return any(
        not (name in INCIDENTAL or (name.startswith(("asked.", "listed.")) and NOTHING in values))
        for name, *values in environment
    )
