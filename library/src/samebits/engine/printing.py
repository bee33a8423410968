"""What is printed and written of texts that may be a stranger's: records, verdicts, names of files, lines of programs.

A terminal obeys the control characters in them: they erase lines, turn the direction of reading, make links, or set
what is typed next. `printable` replaces them, for every way on which such a text reaches a person.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any
from unicodedata import category

if TYPE_CHECKING:
    from rich.console import Console

STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode's categories: controls, marks of direction, invisible ones, ...
FORMULA = re.compile("[\\s\u200c\u200d]*[-=+@\uff0d\uff1d\uff0b\uff20]")  # also in wide letters
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?(e[+-]?\d+)?|inf|nan)")  # as Python writes it
JOINERS = "\u200c\u200d"  # of letters in Persian, Hindi and others; they show no text otherwise than it is


def printable(value: Any, lines: bool = False) -> str:
    """Write a value as a text of printable characters: each other one becomes a question mark.

    Args:
        value: any.
        lines: keep the ends of lines and tabs; else they become blanks, so that no text feigns a line of ours.
    """
    text = str(value)
    if not text.isprintable():
        kept, blank = (JOINERS + "\n\t", "") if lines else (JOINERS, "\n\t")
        text = "".join(
            each if each in kept or category(each) not in STEERING else " " if each in blank else "?" for each in text
        )
    return text


def markdown(value: Any) -> str:
    """Write a value in one line so that Markdown, of whatever kind, shows it as it is."""
    text = printable(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"[\\`*\[\]|]|(?<!\w)[_~]|[_~](?!\w)|!(?=\[)", r"\\\g<0>", text)


def code(value: Any) -> str:
    """Write it as code in Markdown; as text, where it could end the code or a table's cell, or looks like HTML."""
    text = printable(value)
    return f"`{text}`" if re.fullmatch(r"[^\s`<>|]([^`<>|]*[^\s`<>|])?", text) else markdown(text)


def cell(value: Any) -> Any:
    """Write a text for a cell of a CSV file, in which spreadsheets find no formula; numbers stay what they are."""
    if not isinstance(value, str) or NUMBER.fullmatch(value):
        return value
    text = printable(value)
    return f"'{text}" if FORMULA.match(text) else text


def warn(sentence: str) -> None:
    """Print a warning."""
    print(f"warning: {printable(sentence)}", file=sys.stderr)


class _Printable:
    """A stream of printable text; what draws by control characters of its own, as Rich does, goes past it."""

    def __init__(self, stream: Any) -> None:
        self.rich_proxied_file = stream  # by this name Rich asks for the stream beneath

    def write(self, text: str) -> int:
        return int(self.rich_proxied_file.write(printable(text, lines=True)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def only_printable() -> Iterator[None]:
    """Let `print` write printable text alone to stdout."""
    with redirect_stdout(_Printable(sys.stdout)):  # it has what a stream has
        yield


def terminal() -> Console:
    """Make a console whose texts, also those in tables, are printable, and no markup.

    It is coloured on a terminal; elsewhere without colours, and wide enough for two hashes.
    """
    from rich.console import Console

    class Terminal(Console):
        def render_str(self, text: str, **styles: Any) -> Any:  # of every text that Rich is given
            return super().render_str(printable(text), **styles)

    return Terminal(markup=False, highlight=False, soft_wrap=True, width=None if os.isatty(1) else 110)
