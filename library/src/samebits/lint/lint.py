"""What in a project's code makes trainings irreproducible, found by reading it: `samebits lint [FILE ...]`.

A comment allows a line, at its end or above it, with a reason: `# samebits: allow clock: it only names the log`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from ..engine.errors import UserError
from ..engine.project import project
from .rules import CHANCE, CHECKS, CLOCKS, RULES, orders
from .source import Source

SEEN = re.compile(r"calls (time|uuid|secrets|os|datetime|socket)\.(?!.*stat|path)")  # which the observer notes
ALLOW = re.compile(r"#\s*samebits:\s*allow\b[\s:]*([\w-]*(?:\s*,\s*[\w-]+)*)[\s:(–-]*(.*)")


@dataclass(frozen=True)
class Finding:
    """A line that breaks a rule."""

    path: str
    line: int
    rule: str
    what: str  # as `calls time.time()`
    mend: str
    allowed: str = ""  # the reason, where a comment gives one

    @property
    def place(self) -> str:
        """The file and the line."""
        return f"{self.path}:{self.line}"


def check(content: bytes, path: str, data: Iterable[str] = ("data",), is_training: bool = False) -> list[Finding]:
    """List what breaks a rule in a file (see Source), allowed lines included, in the order of the lines."""
    source = Source(content, data, is_training)
    reasons: dict[tuple[int, str], str] = {}
    listed = []
    for line, below, rule, reason in _allowed(content):
        if rule in RULES and reason:
            reasons[line, rule] = reasons[below, rule] = reason
        else:
            what = f"allows {rule} without a reason" if rule in RULES else f"allows {rule!r}, which is no rule"
            mend = "write # samebits: allow <rule>: <why>; `samebits lint --rules` lists the rules"
            listed.append(Finding(path, line, "allow", what, mend))
    for rule, node, what in chain.from_iterable(each(source) for each in CHECKS):
        lines = range(node.lineno, node.end_lineno + 1)  # type: ignore[attr-defined]
        reason = next((reasons[line, rule] for line in lines if (line, rule) in reasons), "")
        listed.append(Finding(path, lines[0], rule, what, RULES[rule].mend, reason))
    return sorted(dict.fromkeys(listed), key=lambda each: (each.line, each.rule))


def _allowed(content: bytes) -> Iterator[tuple[int, int, str, str]]:
    """List the comments that allow something: line, the line below where it has its own, rule, reason."""
    code = [line.strip() for line in content.splitlines()]
    for token in tokenize.tokenize(io.BytesIO(content).readline):
        if token.type == tokenize.COMMENT and (match := ALLOW.match(token.string)):
            line = below = token.start[0]
            while code[below - 1].startswith(b"#") and below < len(code):
                below += 1
            for rule in match[1].split(","):
                yield line, below, rule.strip(), match[2].strip(" .)")


def findings(files: Mapping[str, Path]) -> list[Finding]:
    """List what breaks a rule in named files; those that are no Python hold nothing."""
    found: list[Finding] = []
    for name, path in sorted(files.items()):
        with suppress(SyntaxError, ValueError, OSError):
            found += check(path.read_bytes(), name, project().data or ("data",))
    return [each for each in found if each.rule in RULES]


def suspects(
    files: Mapping[str, Path], notes: Iterable[str] | None = None, rules: Iterable[str] = tuple(RULES)
) -> list[str]:
    """List what breaks a rule in named files, as `package/models/network.py:31 calls time.time()`; the allowed last.

    Args:
        files: by their names.
        notes: what a training did, by `engine/observer.py`. Then only what was run is listed, and what was called, too,
            though no file says so: by another name, for instance.
        rules: that may be broken; with notes, in whose order they are listed.
    """
    wanted = list(rules)
    found = [each for each in findings(files) if each.rule in wanted]
    called: set[str] = set()
    others: list[str] = []
    if notes is not None:
        pairs = [each.partition("\t")[::2] for each in notes]
        found.sort(key=lambda each: wanted.index(each.rule))
        ran = {place for kind, place in pairs if kind == "line"}
        called = {text for kind, text in pairs if kind == "call" and "clock" in wanted}
        ends = {re.sub(r" .*?(\w+)\(\).*", r" \1", text) for text in called}  # file:line name
        # where a call would have been noted, that its line was run is not enough: `time.time() if debug else 0`
        found = [
            each
            for each in found
            if each.place in ran
            and (not SEEN.match(each.what) or re.sub(r".*?(\w+)\(\).*", rf"{each.place} \1", each.what) in ends)
        ]
        named = {each.place for each in found} | _mentioned(files)
        others = sorted(text for text in called if text.partition(" ")[0] not in named)
    plain = [f"{each.place} {each.what}" for each in found if not each.allowed]
    allowed = [f"{each.place} {each.what} (allowed: {each.allowed})" for each in found if each.allowed]
    return [*plain, *others, *allowed] or sorted(called)


def hash_orders(files: Mapping[str, Path]) -> list[Finding]:
    """List where something may hang on the hashes of texts: unlike a rule, it lists what is right as a rule, too."""
    found = [each for each in findings(files) if each.rule == "hash"]
    for name, path in sorted(files.items()):
        with suppress(SyntaxError, ValueError, OSError):
            source = Source(path.read_bytes(), strict=True)
            places = ((getattr(node, "lineno", 0), what) for rule, node, what in orders(source) if rule == "set-order")
            found += [Finding(name, line, "set-order", what, "") for line, what in places]
    return found


def _mentioned(files: Mapping[str, Path]) -> set[str]:
    """List the lines that name a clock or chance, also those where no more than a message depends on it."""
    found: set[str] = set()
    for name, path in files.items():
        with suppress(SyntaxError, ValueError, OSError):
            named = Source(path.read_bytes()).mentions(f"{CLOCKS}|{CHANCE}")
            found |= {f"{name}:{getattr(node, 'lineno', 0)}" for node, *_ in named}
    return found


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        description="Read code for what makes trainings irreproducible; 1 if there is any."
    )
    described.add_argument("files", nargs="*", type=Path, metavar="FILE", help="(default: all of the package)")
    described.add_argument("--rules", action="store_true", help="print the rules, with their reasons and mends")
    described.add_argument("--json", action="store_true", help="print JSON")
    return described


def main(arguments: argparse.Namespace) -> None:
    """Print what breaks a rule, a line each, or the rules."""
    if arguments.rules:
        rules = [rule._asdict() for rule in RULES.values()]
        lines = ["{name}\n  {what}\n  why:  {reason}\n  mend: {mend}\n".format_map(rule) for rule in rules]
        lines.append("# samebits: allow <rule>: <why>, at the end of a line or above it, allows the line.")
        print(json.dumps(rules, indent=2) if arguments.json else "\n".join(lines))
        return
    here, found = project(), []
    train = here.source.joinpath(*here.train.split(".")).with_suffix(".py")
    files = arguments.files or sorted({*here.package.rglob("*.py"), *filter(Path.is_file, [train])})
    if not files:
        raise UserError(f"{here.package} holds no Python: mend package under [tool.samebits] in pyproject.toml.")
    for path in files:
        name = os.path.relpath(path)
        try:
            found += check(path.read_bytes(), name, here.data or ("data",), path.resolve() == train.resolve())
        except (OSError, SyntaxError, ValueError) as error:
            line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
            why = getattr(error, "msg", None) or getattr(error, "strerror", None) or error
            raise UserError(f"{name}{line} is no Python that can be read ({why}): mend or leave it out.") from error
    keys = ("path", "line", "rule", "what", "mend")
    rows = [{key: getattr(each, key) for key in keys} for each in found if not each.allowed]
    lines = ["{path}:{line}: {rule}: {what}; {mend}".format_map(row) for row in rows]
    count = f"{len(files)} file{'s' if len(files) != 1 else ''}"
    lines.append(f"Found {len(rows)} in {count}." if rows else f"Nothing irreproducible was found in {count}.")
    print(json.dumps(rows, indent=2) if arguments.json else "\n".join(lines))
    if rows:
        sys.exit(1)
