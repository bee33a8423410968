"""Verifying a run: check its parts, compare its inputs, train it again, and compare the results."""

from __future__ import annotations

import copy
import csv
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..engine import record as records
from ..engine.adoption import without_root
from ..engine.config import compose, quote
from ..engine.errors import UserError
from ..engine.inputs import of_resolved
from ..engine.loaded_code import COMPILE_ALL
from ..engine.project import project
from ..engine.record import CONFIG, HISTORY, Record
from ..engine.run_loader import read_config
from ..fetch import make_available
from . import provenance_diff, touched
from .comparison import Comparison, Result, compare, recorded_result
from .data_stages import DataStages, made_otherwise
from .environment_diff import environment_causes, environment_differences, may_change_results
from .provenance_diff import NOTHING, Difference, contradictions, differing, differing_files, named
from .repeats import Repeats, reach
from .rerun import Orders, RerunFailed, recorded_settings, rerun
from .verdict import Verdict
from .verdict_files import Kind

MOST_CAUSES = 3  # that are named first


@dataclass(frozen=True)
class Options:
    """How a run is verified."""

    probe: bool = False  # only the first traced steps
    recorded_code: bool = False  # train with the recorded state of the code, not with the one here
    fresh: bool = False  # with that, in an environment that is installed anew from its lock
    todays_settings: bool = False  # train what configs/ has for the run's command today, and not what was recorded
    operator: bool = False  # name the first differing operator, wherever the first diverging step is
    by: str | None = None  # who verifies, for the verdict's file
    sign: bool = False  # that file, with the SSH key by which Git signs


class Verification:
    """One run's verification: what is trained where, and what was found."""

    def __init__(self, run: Path, options: Options, folder: Path, root: Path | None = None) -> None:
        self.run = run  # its directory
        self.options = options
        self.folder = folder  # for everything that is written; removed by the caller
        self.root = root or project().root  # of the project whose data is read
        self.record: Record = records.read_finished(run)
        self.reruns = 0
        self.upto: int | None = None  # the last step to compare; all where it is None
        self.tree, self.python = project().root, sys.executable
        self.overrides: list[str] | None = None  # where today's settings are trained, and differ from the recorded ones
        self.outdated: list[Difference] = []  # why the prepared data are not what the code here makes
        self.machine: dict[str, object] = {}  # that trained again

    @cached_property
    def recorded_tree(self) -> Path:
        """The recorded state of the code, written to a folder when it is first used; a UserError where it is lost."""
        tree = self.folder / "recorded"
        provenance_diff.export_code(self.record, self.run, tree)
        touched.link_outside(self.record, self.root, tree)
        return tree

    def verdict(self) -> Verdict:
        """Find the verdict; a UserError says why nothing can be compared."""
        if found := contradictions(self.run, self.record):
            return self._make(Kind.TAMPERED, causes=found)
        self.cfg = recorded_settings(self.record, read_config(self.run, self.root), self.root)
        made_now = make_available(self.cfg)
        data = provenance_diff.data_differences(self.record, self.cfg)
        files = provenance_diff.named_file_differences(self.record, self.cfg)
        if data or files:
            inputs, causes = self._stages().why(data, made_now) if data else ([], [])
            return self._make(Kind.DIFFERENT_INPUTS, inputs=[*files, *inputs], causes=causes)
        self.original = recorded_result(self.run, self.record)
        if self.options.probe:
            self.upto = self.original.first_steps
            if not self.upto:
                mend = f"use `make reproduce RUN={self.run}`"
                raise UserError(f"{self.run} has no trace of first steps, which a probe compares: {mend}.")
        inputs = self._choose_code()
        self.outdated = [] if made_now else self._stages().outdated()  # made by the code here, or by what?
        if any(name == "settings" for name, *_ in inputs):  # those of today cannot be composed
            causes = ["the settings in configs/ cannot be composed, so nothing was trained"]
            return self._make(Kind.DIFFERENT_INPUTS, inputs=inputs, causes=causes)
        try:
            return self._judge(self._train(), inputs)
        except RerunFailed as error:
            if not inputs:
                raise UserError(f"{self.run} could not be trained again; its last lines were:\n{error}") from error
            last = f"training with them fails: {str(error).splitlines()[-1]}"
            return self._make(Kind.DIFFERENT_INPUTS, inputs=inputs, diff=self._code_diff(inputs), causes=[last])

    def _judge(self, first: Result, inputs: list[Difference]) -> Verdict:
        self.machine = {"processor": first.environment["processor"]["model"], "system": first.environment["system"]}
        source = replace(project(), root=self.tree).source
        self.repeats.files = {name: source / name for name in first.inputs["code"]}
        outside = [name for name in first.inputs["outside"] if name.endswith(".py")]  # and not the data that it read
        self.repeats.files |= {name: self.tree / name for name in outside}
        comparison = compare(self.original, first, self.upto)
        environment = environment_differences(self.original.environment, first.environment)
        listed = {name.rpartition(" ")[2] for name, *_ in inputs}
        inputs = inputs + [row for row in self._trained_with(first) if row[0].rpartition(" ")[2] not in listed]
        found: dict[str, Any] = {"inputs": self.outdated + inputs, "environment": environment, "comparison": comparison}
        found["remarks"] = [*self._remarks(), *([] if comparison else self._other_curves(first))]
        if not comparison:
            # the same results all the same: but of other settings, or of data that the code here does not make
            others = self.outdated or [row for row in inputs if row[0].startswith(("settings ", "data "))]
            causes = made_otherwise(self.outdated)
            # an order that hangs on hashes may be the recorded one by chance
            doubted = not others and bool(self.repeats.hashes)
            if doubted and (differs := self.repeats.another(first, self.original.first_steps or None, whole=True)):
                return self._nondeterministic(first, *differs, found)
            return self._make(Kind.DIFFERENT_INPUTS if others else Kind.IDENTICAL, **found, causes=causes)
        if not all(map(_read_here_alone, inputs)):
            return self._different_inputs(inputs, found)
        second = self._train(orders=self.repeats.second, variables={COMPILE_ALL: "1"})
        found["environment"] = environment = environment_differences(self.original.environment, second.environment)
        if among_themselves := compare(first, second, self.upto):
            return self._nondeterministic(first, second, self.repeats.second, among_themselves, found)
        explained = may_change_results(environment)
        doubted = bool(self.repeats.hashes or (comparison.divergence and not explained))
        if doubted and (differs := self.repeats.another(first, reach(comparison), whole=False)):
            return self._nondeterministic(first, *differs, found)
        if inputs:
            return self._different_inputs(inputs, found)
        found["comparison"] = self._with_operator(comparison)
        causes = environment_causes(environment) + touched.causes(self.record, environment)
        if causes[MOST_CAUSES:]:
            causes[MOST_CAUSES:] = [f"and {len(causes) - MOST_CAUSES} more; see the table"]
        causes += unexplained(comparison, explained)
        suspected = [] if explained else self.repeats.suspects(comparison)
        return self._make(Kind.ENVIRONMENT, **found, causes=causes, suspects=suspected)

    def _different_inputs(self, inputs: list[Difference], found: dict[str, Any]) -> Verdict:
        comparison = found["comparison"] = self._with_operator(found["comparison"])
        suspected = self.repeats.suspects(comparison, {name.rpartition(" ")[2] for name, *_ in inputs})
        found["causes"] = made_otherwise(self.outdated)
        return self._make(Kind.DIFFERENT_INPUTS, **found, diff=self._code_diff(inputs), suspects=suspected)

    def _nondeterministic(
        self, first: Result, other: Result, orders: Orders, different: Comparison, found: dict[str, Any]
    ) -> Verdict:
        found["inputs"] = [row for row in found["inputs"] if not _read_here_alone(row)]
        causes, suspected = self.repeats.explain(first, other, orders, different)
        found["comparison"] = self._with_operator(different, (self.repeats.first, orders))
        causes += suspected[: MOST_CAUSES - len(causes)]
        return self._make(Kind.NONDETERMINISTIC, **found, causes=causes, suspects=suspected)

    def _stages(self) -> DataStages:
        before: Path | None = self.root
        if self.tree == project().root:
            try:
                before = None if project().adopted else self.recorded_tree
            except UserError:
                before = None
        return DataStages(self.record, self.cfg, self.root, self.tree, before)

    def _trained_with(self, result: Result) -> list[Difference]:
        """List what a re-run, by its own record, was trained with that is not as recorded.

        That are settings, data, files of the code, another contract of the library, code from elsewhere. An older
        library may list other files, so that only those which both list are compared.
        """
        mine, theirs = (self._plain(side.inputs["config"]) for side in (self.original, result))
        found = named("settings", differing(mine, theirs))
        for kind in ("code", "lock", "data"):
            one, other = self.original.inputs[kind], result.inputs[kind]
            common = one.keys() & other.keys()
            sides = ({name: side[name] for name in common} for side in (one, other))
            found += named(kind, differing_files(*sides))
        known, loaded = self.original.inputs["outside"], result.inputs["outside"]
        outside = provenance_diff.outside_differences({name: known[name] for name in loaded if name in known}, loaded)
        return [*found, *provenance_diff.contract_difference(self.original.inputs, result.inputs), *outside]

    def _plain(self, config: dict[str, Any]) -> dict[str, Any]:
        """Write settings that count as this library does, with paths from the project's folder."""
        return of_resolved(without_root(copy.deepcopy(config), self.root))

    def _remarks(self) -> list[str]:
        """Say how the settings in configs/ differ today, where the recorded ones were trained."""
        if self.options.todays_settings or self.tree != project().root:
            return []
        found, _ = provenance_diff.settings_differences(self.record)
        if not found:
            return []
        if found[0][0] == "settings":
            return [f"Trained as recorded; the settings of its command {found[0][2]}."]
        listed = ", ".join(f"{name.partition(' ')[2] or name}: {a} recorded, {b} here" for name, a, b in found[:3])
        more = f" and {len(found) - 3} more" if found[3:] else ""
        return [
            f"Trained as recorded; configs/ has other settings for its command today ({listed}{more}):",
            f"make reproduce RUN={os.path.relpath(self.run)} CONFIG=here   trains those, and compares.",
        ]

    def _other_curves(self, again: Result) -> list[str]:
        """Say in a sentence where the curves of the report, which are no result, are not those of a re-run.

        They may hold times and loads, which are never the same.
        """
        sides = []
        for path in (self.run / HISTORY, again.weights.parent / HISTORY):
            text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
            rows = csv.DictReader(text.splitlines())
            sides.append({f"{row.get('metric')} of step {row.get('step')}": str(row.get("value")) for row in rows})
        one, other = sides
        found = [
            f"{name} is {one[name]}, here {other[name]}" for name in one if one[name] != other.get(name, one[name])
        ]
        if not found:
            return []
        listed = f"{'; '.join(found[:2])}{'; ...' if found[2:] else ''}"
        return [f"The curves in {HISTORY}, which are not part of this verdict, have other values ({listed})."]

    @cached_property
    def repeats(self) -> Repeats:
        """Trains again in other orders."""
        recorded, settings = self.record["observed"].get("hash_seed"), self.record["inputs"]["config"]
        return Repeats(self._train, settings, self.python, recorded, self.folder / "notes")

    # --- training again

    def _choose_code(self) -> list[Difference]:
        """Decide which code trains; return how it differs from the recorded inputs."""
        if not (self.options.recorded_code or self.options.fresh):
            settings: list[Difference] = []
            if self.options.todays_settings:
                if records.settings_of(self.record) is None:
                    raise UserError(
                        f"{self.run} was not begun by a command with settings of its own, so what configs/ would make"
                        " of it today is not known: leave out CONFIG=here."
                    )
                settings, self.overrides = provenance_diff.settings_differences(self.record)
            return provenance_diff.code_differences(self.record) + settings
        if self.options.todays_settings:
            raise UserError("the recorded code is trained with the recorded settings: leave out CONFIG=here, or CODE=.")
        self.tree = self.recorded_tree
        if self.options.fresh and project().adopted:
            raise UserError("--fresh needs a lock of the packages, which this project has not: leave it out.")
        if self.options.fresh:
            print("Installing the recorded packages into a new environment.", flush=True)
            left_out = ("PYTHONPATH", "VIRTUAL_ENV", "EXTRAS")
            kept = {name: value for name, value in os.environ.items() if name not in left_out}
            if (self.root / "offline").exists():  # by which a bundle needs no network
                (self.tree / "offline").symlink_to(self.root / "offline")
            install = ["sh", "requirements/install.sh"]
            installed = subprocess.run(install, cwd=self.tree, env=kept | {"VENV": ".venv"})
            if installed.returncode:
                raise UserError("the recorded packages cannot be installed; the lines above say why.")
            self.python = str(self.tree / ".venv/bin/python")
        return []

    def _train(
        self, *more: str, tree: Path | None = None, upto: int | None = None, orders: Orders | None = None, **asked: Any
    ) -> Result:
        self.reruns += 1
        upto, orders = upto or self.upto, orders or self.repeats.first
        print(f"re-run {self.reruns}: training {'the first steps ' if upto else ''}again", end="", flush=True)
        started = time.monotonic()
        if self.overrides is not None and tree is None:
            root = f"{project().paths}.root={quote(str(self.root))}"
            overrides, cfg = [*self.overrides, root], compose(self.overrides)
        else:
            overrides, cfg = [str(self._settings)], self.cfg
        # a re-run writes into its own folder alone
        loggers = cfg.get("logger") or {}
        overrides += ["snapshot=false", *(f"~logger.{name}" for name in loggers if "_target_" not in loggers), *more]
        if upto:
            probe = f"_target_:samebits.engine.callbacks.Probe,steps:{upto},directory:'${{{project().paths}.run}}'"
            overrides.append(f"+callbacks.probe={{{probe}}}")
        folder = self.folder / f"run-{self.reruns}"
        folder.mkdir()
        try:
            where = tree or self.tree, project().name, self.python, cfg.determinism
            return rerun(overrides, folder, *where, orders, **asked)
        finally:
            print(f" ({time.monotonic() - started:.0f} s)", flush=True)

    @cached_property
    def _settings(self) -> Path:
        """The run's settings in a file, with the paths of the project whose data is read: a tree elsewhere has none."""
        path = self.folder / "settings" / CONFIG
        path.parent.mkdir()
        cfg = self.cfg.copy()
        cfg.publish, cfg.force = None, False  # whatever the file says, a re-run is copied nowhere
        path.write_text(OmegaConf.to_yaml(cfg), encoding="utf-8")
        return path

    def _with_operator(self, comparison: Comparison, again: Sequence[Orders] = ()) -> Comparison:
        """Name the first differing operator, if asked to and if it is not known yet."""
        first = comparison.divergence
        if not self.options.operator or first is None or not first.operator_unknown:
            return comparison
        steps = range(first.since + 1, first.step + 1)  # those that were not traced may hold the first to differ
        more = f"callbacks.trace.operators={list(steps)}".replace(" ", "")
        if again:
            sides = [self._train(more, upto=first.step, orders=orders) for orders in again]
        else:
            try:
                recorded_side = self._train(more, upto=first.step, tree=self.recorded_tree)
                sides = [recorded_side, self._train(more, upto=first.step)]
            except (UserError, RerunFailed) as error:
                print(f"The operator cannot be named: {error}")
                return comparison
        found = compare(sides[0], sides[1], first.step).divergence
        if found is None:
            print(f"The operator cannot be named: the record lists those of step 1 alone, and {first.when()} is not")
            print(f"repeated here. Where the record was made, train with callbacks.trace.operators=[{first.step}].")
            return comparison
        return replace(comparison, divergence=found)

    def _code_diff(self, inputs: list[Difference]) -> str:
        return provenance_diff.code_diff(inputs, lambda: (self.recorded_tree, project().root))

    def _make(self, kind: Kind, **found: object) -> Verdict:
        outputs = self.record["outputs"]
        rows = outputs["trace"]["rows"] if outputs["trace"] and kind is not Kind.TAMPERED else 0
        compared = {"rows": rows, "tensors": len(outputs["tensors"]), "metrics": len(outputs["metrics"])}
        determinism = self.record["inputs"]["config"]["determinism"]
        about = {"compared": compared, "command": records.command(self.record), "portable": determinism["portable"]}
        if found.get("comparison") is not None:
            where = "remarks" if kind is Kind.IDENTICAL else "causes"
            known: Any = found.get(where, [])
            found[where] = [*touched.unrecorded_answers(self.record), *known]
        return Verdict(kind, self.record["run"], self.upto, **{**about, **found})


def _read_here_alone(row: Difference) -> bool:
    """Whether a difference is a file outside of the inputs that the recorded training did not read.

    It is another input (a file that was not there), unless two trainings here differ: then chance has chosen it.
    """
    return row[1] == NOTHING and " outside of " in row[0]


def unexplained(comparison: Comparison, explained: bool) -> list[str]:
    """Say what a difference means that inputs and, if it is not `explained`, environment do not account for."""
    first = comparison.divergence
    if explained and first is not None and first.column != "metrics":
        return []
    found = []
    if first is not None and first.step == 0 and not first.evaluation:
        found.append("the initial weights, which follow from seed, code and packages alone, are others: this record is")
        found[0] += " not of these inputs, unless building the model reads something that no record names"
    if first is None:
        found.append("every traced step and evaluation is the recorded one, so only what is written of them differs")
    return [*found, "that somebody edited the record, all of its parts alike, cannot be excluded"]
