"""Why re-runs of the same inputs differ: chance, the order of hashes or of folders, and by which lines of the code.

Each training is given a PYTHONHASHSEED of its own. A set of two texts that stand together in the code or the settings
comes in both orders in two of them; one of other texts stays unnoticed in 1 of 2^(number of trainings) cases.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from ..lint.lint import Finding, findings, hash_orders, suspects
from ..lint.rules import RULES
from .comparison import Comparison, Result, compare
from .rerun import Orders

HASHES, FOLDERS = ("set-order", "hash"), ("folder-order",)
CHANCE = tuple(sorted((name for name in RULES if name not in ("seed-guard", *FOLDERS)), key=HASHES.__contains__))
SEEDS = range(1, 33)  # that are tried
# Short trainings with other seeds, where two agree and a third could differ: if hashes are used, and if none are seen
MORE, FEW = 5, 2
ORDER = """import json, sys
print(json.dumps([list(eval(each)) for each in json.load(sys.stdin)]))"""


class Repeats:
    """Trains again in other orders.

    Args:
        train: trains once more.
        settings: of the run.
        python: that trains.
        recorded: the PYTHONHASHSEED of the record; None where it was a random one.
        notes: a file that is written.
    """

    def __init__(
        self, train: Callable[..., Result], settings: Any, python: str, recorded: str | None, notes: Path
    ) -> None:
        self.train, self.settings, self.python, self.recorded, self.notes = train, settings, python, recorded, notes
        self.files: dict[str, Path] = {}  # the user's code, by name
        self.first = Orders(seed=next(seed for seed in SEEDS if str(seed) != recorded))

    @cached_property
    def hashes(self) -> list[Finding]:
        """Where something in the code may depend on hashes."""
        return hash_orders(self.files)

    @property
    def second(self) -> Orders:
        """The orders of the second training: another seed, and folders as the system lists them."""
        return Orders(self.seeds[0], backwards=False)

    def another(self, first: Result, upto: int | None, whole: bool) -> tuple[Result, Orders, Comparison] | None:
        """Train in further orders until one differs from the first training; return what it gave, or None.

        Args:
            first: what the first training gave.
            upto: how many steps are trained and compared; None: all.
            whole: begin with a training that goes as far as the first one.
        """
        for number, seed in enumerate(self.seeds[not whole : 1 + (MORE if self.hashes else FEW)]):
            orders, end = Orders(seed), None if whole and number == 0 else upto
            result = self.train(upto=end, orders=orders)
            if different := compare(first, result, end):
                return result, orders, different
        return None

    def explain(
        self, first: Result, other: Result, orders: Orders, different: Comparison
    ) -> tuple[list[str], list[str]]:
        """Say why two trainings differ, and which lines of the code may be the reason: sentences.

        The first training is repeated, observed, up to the first difference: if it comes out otherwise, too, the reason
        is no order.
        """
        upto = reach(different)
        again, notes = self.observe(upto)
        if compare(first, again, upto):
            return [], suspects(self.files, notes, CHANCE)
        third = (
            self.train(upto=upto, orders=Orders(self.first.seed, orders.backwards)) if not orders.backwards else first
        )
        if not compare(first, third, upto):
            reason = "the order of a set of texts, or a hash(), which PYTHONHASHSEED decides and no seed governs"
            ran = [f"{each.place} {each.what}" for each in self.hashes if f"line\t{each.place}" in notes]
            return [f"{reason}: with another one, the results are others"], suspects(self.files, notes, HASHES) or ran
        listed = [each.partition("\t")[2] for each in notes if each.startswith("list\t")]
        found = suspects(self.files, notes, FOLDERS) or listed
        reason = "the order in which a folder is listed: backwards, the results are others"
        if compare(other, third, upto):
            return [reason, "the order of a set of texts, or chance, besides"], [
                *found,
                *suspects(self.files, notes, CHANCE),
            ]
        return [reason], found

    def suspects(self, different: Comparison, names: Iterable[str] = ()) -> list[str]:
        """List what the code, or some of its files, does up to the first difference that may be the reason."""
        files = {name: path for name, path in self.files.items() if name in names} if names else self.files
        return suspects(files, self.observe(reach(different))[1], CHANCE) if findings(files) or not names else []

    def observe(self, upto: int | None) -> tuple[Result, list[str]]:
        """Train as at first, and note what the code does."""
        lines: dict[str, list[int]] = {}
        for each in [*findings(self.files), *self.hashes]:
            lines.setdefault(each.path, []).append(each.line)
        self.notes.unlink(missing_ok=True)
        result = self.train(upto=upto, orders=self.first, notes=self.notes, lines=lines)
        return result, sorted(set(self.notes.read_text().splitlines()))

    @cached_property
    def seeds(self) -> list[int]:
        """Further seeds, each of which puts as many sets as it can in an order in which they have not come yet."""
        texts = sorted({*_written(self.files.values()), *_listed(self.settings)})
        known = [str(self.first.seed), *filter(str.isdecimal, [self.recorded or ""])]
        orders = {seed: self._orders(texts, seed) for seed in {*map(str, SEEDS), *known}}
        left, chosen = set(range(len(texts))), list[int]()
        while len(chosen) <= MORE:
            changed = {
                seed: {each for each in left if any(orders[str(seed)][each] != orders[one][each] for one in known)}
                for seed in SEEDS
                if str(seed) not in known
            }
            chosen.append(max(changed, key=lambda seed: len(changed[seed])))
            known.append(str(chosen[-1]))
            left -= changed[chosen[-1]]
        return chosen

    def _orders(self, texts: list[str], seed: str) -> list[list[str]]:
        """Say in which order sets come with a seed: `texts` are sets as they are written."""
        command = [self.python, "-S", "-c", ORDER]
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(
            command, env=environment, input=json.dumps(texts), capture_output=True, text=True, check=True
        )
        return list(json.loads(done.stdout))


def reach(different: Comparison) -> int | None:
    """Return how many steps lead to the first difference; None where only an evaluation or the end tells."""
    first = different.divergence
    return max(1, first.step) if first and not first.evaluation else None


def _set(texts: Sequence[Any]) -> Iterator[str]:
    if len(set(texts)) > 1 and all(isinstance(each, str) for each in texts):
        yield f"{{{', '.join(map(repr, texts))}}}"


def _written(files: Iterable[Path]) -> Iterator[str]:
    """List the sets of texts that stand together in code, in whatever brackets."""
    for path in files:
        with suppress(SyntaxError, ValueError, OSError):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.Set | ast.List | ast.Tuple):
                    yield from _set([getattr(each, "value", None) for each in node.elts])


def _listed(settings: Any) -> Iterator[str]:
    """List the sets of texts that stand together in settings."""
    if isinstance(settings, dict | list):
        for each in settings.values() if isinstance(settings, dict) else settings:
            yield from _listed(each)
        with suppress(TypeError):  # of lists in a list
            yield from _set(list(settings))
