"""The rules of `samebits lint`: what each looks for in a parsed file, its reason, and its mend."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import changing, outside
from .flow import Flow
from .syntax import Place


@dataclass(frozen=True)
class Found:
    """A place that breaks a rule."""

    node: ast.expr
    rule: str
    what: str


@dataclass(frozen=True)
class Rule:
    """A rule: its name, what it looks for, why, and what to do instead."""

    name: str
    what: str
    reason: str
    mend: str


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "generator",
            "random generators without a seed, or kept by a module or class; draws before anything is seeded",
            "no seed gives these numbers again; a resumed run draws others, as checkpoints hold what objects keep",
            "seed it from the settings and keep it in an attribute, or draw from the global ones while training",
        ),
        Rule(
            "seed-guard",
            "`if seed:`, `seed or 42`",
            "0 is a seed, too, and is taken for none",
            "compare with None: `if seed is not None`",
        ),
        Rule(
            "set-order",
            "sets of texts or objects that are iterated, listed, or popped from",
            "each start of Python hashes texts otherwise, so the order is another one",
            "put sorted(...) around the set, or use a list or dict.fromkeys(...)",
        ),
        Rule(
            "folder-order",
            "os.listdir, os.walk, os.scandir, glob, iterdir, rglob that nobody sorts",
            "the file system chooses the order, and a copy of the folder has another one",
            "put sorted(...) around it",
        ),
        Rule(
            "completion-order",
            "as_completed, imap_unordered",
            "whichever task ends first comes first",
            "take the results in the order of the tasks: executor.map, or one future after the other",
        ),
        Rule(
            "clock",
            "the time, or a file's time, used for more than a message",
            "no other run starts at that moment",
            "make it a setting, or count steps and epochs; only print or log as text how long something took",
        ),
        Rule(
            "chance",
            "uuid4, secrets, os.urandom, random.seed() without a number; numbers of processes, names of hosts",
            "they are others in every process, and no seed governs them",
            "draw from a seeded generator, or derive it from the settings",
        ),
        Rule(
            "hash",
            "hash() and id() used as a number or to sort by",
            "each start of Python hashes texts otherwise and puts objects elsewhere",
            "use zlib.crc32 or hashlib on bytes, or a name that the object has",
        ),
        Rule(
            "outside-read",
            "environment variables, command lines, input() and files at fixed places outside of the data",
            "they change the result, and are neither in the settings nor in the run's name",
            "make it a setting in configs/ (a path that a setting names is hashed), or put the file with the data",
        ),
        Rule(
            "network",
            "requests, urllib, hubs, download=True, pretrained weights by name",
            "a server gives something else tomorrow, or nothing",
            "fetch it once as data (configs/data/ lists files with their sha256), and name its path in the settings",
        ),
        Rule(
            "data-edit",
            "writing to data/ other than in a stage of the pipeline; arrays mapped for writing",
            "the data are not what the run was named after, nor what the code makes of the raw data",
            "leave raw data as they are; write what you make of them in the stage `prepare`, or work on a copy",
        ),
        Rule(
            "switch",
            "torch.backends, deterministic algorithms, threads and precision set by hand",
            "it undoes what `determinism` pins, for whatever runs after it",
            "choose determinism=portable, native, gpu or off, or set determinism.* in configs/",
        ),
    )
}
Check = Callable[[Flow], Iterator[Place]]
CHECKS: dict[str, Check] = {
    "generator": changing.generator,
    "seed-guard": changing.seed_guard,
    "set-order": changing.set_order,
    "folder-order": changing.folder_order,
    "completion-order": changing.completion_order,
    "clock": changing.clock,
    "chance": changing.chance,
    "hash": changing.hash,
    "outside-read": outside.outside_read,
    "network": outside.network,
    "data-edit": outside.data_edit,
    "switch": outside.switch,
}


def findings(source: Flow) -> list[Found]:
    """List what breaks a rule in a file."""
    return [Found(node, rule, what) for rule, check in CHECKS.items() for node, what in check(source)]  # type: ignore[arg-type]
