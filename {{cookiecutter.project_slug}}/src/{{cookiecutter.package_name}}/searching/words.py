"""Which words of the command line are for the search, and which for every training of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..cli import explain
from ..errors import UserError
from .space import FIELDS

OURS = re.compile(r"[+~]*search(?=[=.]|$)")
SPACE = re.compile(r"(?P<sign>[+~]*)search\.space\.(?P<key>[^=]+)(?:=(?P<value>.*))?", re.S)


def split(words: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Sort words into those for Hydra's group `search`, those that change `search.space`, and those of the trainings.

    Names in the space hold dots, at which Hydra would look for groups; so the second are ours to read.
    """
    space = [word for word in words if SPACE.fullmatch(word)]
    ours = [word for word in words if OURS.match(word) and word not in space]
    if not any(word.startswith("search=") for word in ours):
        ours.insert(0, "search=default")
    return ours, space, [word for word in words if not OURS.match(word)]


def apply_space(raw: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Change `search.space` as words say: a whole range or list, one field of a range, or ~ to take a setting out.

    Raises:
        UserError: a word says nothing.
    """
    space = {str(key): value for key, value in (raw or {}).items()}
    for word in words:
        match = SPACE.fullmatch(word)
        assert match
        key, _, field = match["key"].rpartition(".")
        if "~" in match["sign"]:
            if match["key"] not in space:
                raise UserError(f"{word}: search.space does not vary {match['key']}, but {', '.join(space)}.")
            del space[match["key"]]
        elif match["value"] is None:
            raise UserError(f"{word} is not of the form search.space.<setting>=<range or list>.")
        elif field in FIELDS and isinstance(space.get(key), Mapping):
            space[key] = {**space[key], field: _value(word, match["value"])}
        else:
            space[match["key"]] = _value(word, match["value"])
    return space


def _value(word: str, text: str) -> Any:
    """Read a value by Hydra's grammar."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import QuotedString
    from hydra.errors import HydraException

    def plain(value: Any) -> Any:
        if isinstance(value, QuotedString):
            return value.text
        if isinstance(value, list):
            return [plain(each) for each in value]
        return {str(key): plain(each) for key, each in value.items()} if isinstance(value, dict) else value

    try:
        (override,) = OverridesParser.create().parse_overrides([f"x={text}"])
        return plain(override.value())
    except HydraException as error:
        raise UserError(f"{word}: {explain(error)}") from error
