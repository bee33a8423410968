"""What in a project's code makes trainings irreproducible, found by reading it: `samebits lint [FILE ...]`.

Each rule has a name, its reason and its mend. A comment allows a line, at its end or above it, and gives a reason:

    started = time.time()  # samebits: allow clock: it only names the log
"""

from __future__ import annotations

import argparse
import difflib
import io
import json
import os
import re
import sys
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..engine.errors import UserError
from ..engine.project import project
from .flow import Flow
from .rules import RULES, Found, findings

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


def check(content: bytes, path: str, data: Iterable[str] = ("data",), is_training: bool = False) -> list[Finding]:
    """List what breaks a rule in a file, allowed lines included, in the order of the lines.

    Args:
        content: of the file.
        path: by which findings name it.
        data: the folders of the project's data, from its root.
        is_training: whether it is the command that trains, whose words are Hydra's.

    Raises:
        SyntaxError, ValueError: it is no Python.
    """
    source = Flow(content, data, is_training)
    allowed, wrong = _allowed(content)
    listed = [Finding(path, line, "allow", what, mend) for line, what, mend in wrong]
    for found in findings(source):
        lines = _lines(found)
        reason = next((allowed[line, found.rule] for line in lines if (line, found.rule) in allowed), "")
        mend = RULES[found.rule].mend
        listed.append(Finding(path, found.node.lineno, found.rule, found.what, mend, reason))
    return sorted(dict.fromkeys(listed), key=lambda each: (each.line, each.rule))


def _lines(found: Found) -> range:
    """Return the lines of an expression, whose comments count."""
    node = found.node
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _allowed(content: bytes) -> tuple[dict[tuple[int, str], str], list[tuple[int, str, str]]]:
    """Read the comments that allow a line: the reason by line and rule, and what is wrong with a comment."""
    reasons: dict[tuple[int, str], str] = {}
    wrong: list[tuple[int, str, str]] = []
    if b"samebits" not in content:
        return reasons, wrong
    above: list[tuple[str, str]] = []
    for token in tokenize.tokenize(io.BytesIO(content).readline):
        if token.type != tokenize.COMMENT:
            if token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
                reasons |= {(token.start[0], rule): reason for rule, reason in above}
                above = []
            continue
        if not (match := ALLOW.match(token.string)):
            continue
        line, reason = token.start[0], match[2].strip(" .)")
        for rule in filter(None, (each.strip() for each in match[1].split(","))):
            close = difflib.get_close_matches(rule, RULES, n=1)
            if rule not in RULES:
                hint = f"did you mean {close[0]}?" if close else "`samebits lint --rules` lists them"
                wrong.append((line, f"allows {rule!r}, which is no rule", hint))
            elif not reason:
                wrong.append((line, f"allows {rule} without a reason", f"write it: # samebits: allow {rule}: <why>"))
            else:
                reasons[line, rule] = reason
                if not token.line[: token.start[1]].strip():  # a line of its own is about the next one
                    above.append((rule, reason))
        if not match[1]:
            wrong.append((line, "allows nothing", "name the rule: # samebits: allow <rule>: <why>"))
    return reasons, wrong


def suspects(files: Mapping[str, Path]) -> list[str]:
    """List what breaks a rule in named files, as `package/models/network.py:31 calls time.time()`; the allowed last."""
    found: list[Finding] = []
    for name, path in sorted(files.items()):
        try:
            found += check(path.read_bytes(), name, project().data or ("data",))
        except (SyntaxError, ValueError, OSError):
            continue
    found.sort(key=lambda each: bool(each.allowed))
    return [
        f"{each.path}:{each.line} {each.what}" + (f" (allowed: {each.allowed})" if each.allowed else "")
        for each in found
        if each.rule in RULES
    ]


def project_files() -> list[Path]:
    """List the Python files of the project's package, and the command that trains where it lies outside of it."""
    here = project()
    if not here.package.is_dir():
        raise UserError(f"{here.package} is not there: mend package under [tool.samebits] in pyproject.toml.")
    train = here.source.joinpath(*here.train.split(".")).with_suffix(".py")
    return sorted({*here.package.rglob("*.py"), *([train] if train.is_file() else [])})


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        description="Read the project's code, without running it, for what makes trainings irreproducible. Ends with 1"
        " where there is something. `# samebits: allow <rule>: <why>` at the end of a line, or above it, allows it."
    )
    described.add_argument("files", nargs="*", type=Path, metavar="FILE", help="(default: all of the package)")
    described.add_argument("--rules", action="store_true", help="print the rules, with their reasons and mends")
    described.add_argument("--json", action="store_true", help="print JSON")
    return described


def main(arguments: argparse.Namespace) -> None:
    """Print what breaks a rule, a line each."""
    if arguments.rules:
        print_rules(arguments.json)
        return
    here = project()
    train = here.source.joinpath(*here.train.split(".")).with_suffix(".py")
    files = arguments.files or project_files()
    listed = []
    for path in files:
        name = os.path.relpath(path)
        try:
            listed += check(path.read_bytes(), name, here.data or ("data",), path.resolve() == train.resolve())
        except OSError as error:
            raise UserError(f"{name} cannot be read ({error.strerror}): name files of Python.") from error
        except SyntaxError as error:
            raise UserError(f"{name}:{error.lineno or 1} is no Python ({error.msg}): mend that line.") from error
        except ValueError as error:
            raise UserError(f"{name} is no Python ({error}): mend it.") from error
    listed = [each for each in listed if not each.allowed]
    if arguments.json:
        rows = [{key: value for key, value in asdict(each).items() if key != "allowed"} for each in listed]
        print(json.dumps(rows, indent=2))
    else:
        for each in listed:
            print(f"{each.path}:{each.line}: {each.rule}: {each.what}; {each.mend}")
        count = f"{len(files)} file{'s' if len(files) != 1 else ''}"
        print(f"Found {len(listed)} in {count}." if listed else f"Nothing irreproducible was found in {count}.")
    if listed:
        sys.exit(1)


def print_rules(as_json: bool) -> None:
    """Print the rules."""
    if as_json:
        print(json.dumps([asdict(rule) for rule in RULES.values()], indent=2))
        return
    for rule in RULES.values():
        print(f"{rule.name}\n  {rule.what}\n  why:  {rule.reason}\n  mend: {rule.mend}\n")
    print("# samebits: allow <rule>: <why>, at the end of a line or above it, allows the line.")
