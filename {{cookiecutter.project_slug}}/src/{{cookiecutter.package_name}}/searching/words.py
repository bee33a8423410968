"""Which words of the command line are for the search, and which for every training of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..cli import explain
from ..errors import UserError
from .space import FIELDS

OURS = re.compile(r"[+~]*search(?=[=.]|$)")
WHOLE = re.compile(r"search\.(?P<key>space|sampler|pruner)=(?P<value>\{.*)", re.S)
SPACE = re.compile(r"(?P<sign>[+~]*)search\.space\.(?P<key>[^=]+)(?:=(?P<value>.*))?", re.S)


@dataclass(frozen=True)
class Words:
    """The words of one command.

    Attributes:
        options: for Hydra's group `search`.
        whole: that put another space, sampler or pruner in the place of that in configs/search/; Hydra would mix them.
        space: that change `search.space`, where names hold dots, at which Hydra would look for groups.
        training: for every training.
    """

    options: list[str]
    whole: list[str]
    space: list[str]
    training: list[str]


def split(words: Sequence[str]) -> Words:
    """Sort words by whom they are for; without a choice, the search is `default`."""
    whole = [word for word in words if WHOLE.fullmatch(word)]
    space = [word for word in words if SPACE.fullmatch(word)]
    options = [word for word in words if OURS.match(word) and word not in whole + space]
    if not any(word.startswith("search=") for word in options):
        options.insert(0, "search=default")
    return Words(options, whole, space, [word for word in words if not OURS.match(word)])


def apply_whole(cfg: DictConfig, words: Sequence[str]) -> None:
    """Put what words say in the place of `search.space`, `search.sampler` or `search.pruner`.

    Raises:
        UserError: a word is not of Hydra's grammar.
    """
    for word in words:
        match = WHOLE.fullmatch(word)
        assert match
        OmegaConf.update(cfg, f"search.{match['key']}", _value(word, match["value"]), merge=False, force_add=True)


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
