"""`samebits reproduce [RUN]`: check a run's parts, compare its inputs, train it again, and compare the results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..engine import record as records
from ..engine.config import compose, quote
from ..engine.determinism import changed
from ..engine.errors import UserError
from ..engine.project import project
from ..engine.record import CONFIG, PROBE, RECORD, Record
from ..engine.run_loader import newest_run, read_config
from ..fetch import make_available
from ..lint.lint import suspects
from . import provenance_diff
from .comparison import Comparison, Result, compare, nothing_compared, recorded_result
from .provenance_diff import NOTHING, Difference, contradictions, may_change_results
from .verdict import Kind, Verdict, print_verdict, write_reproducibility_report, write_verdict

MOST_CAUSES = 4
LAST_LINES = 12  # of a training that failed


class RerunFailed(Exception):
    """The training ended with an error; the text holds its last lines."""


def rerun(
    overrides: Sequence[str],
    folder: Path,
    tree: Path,
    package: str,
    python: str = sys.executable,
    pinned: DictConfig | None = None,
) -> Result:
    """Train in a process of its own, printing the lines that tell how far it is, and read the result.

    The code in `tree`, a project's folder, is trained by `python`, into the empty `folder`; a recorded tree brings its
    own library.

    Raises:
        RerunFailed: it ended with an error.
        UserError: the recorded library is not in the tree.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("HYDRA_FULL_ERROR", "PYTHONHOME")}
    library = [] if tree == project().root else recorded_library(tree)
    here = replace(project(), root=tree, name=package)
    paths = [str(here.source), *library, *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if pinned is not None and here.adopted:  # its program may import torch before anything else
        everything = environment | dict(changed(pinned, environment))
        environment = {name: value for name, value in everything.items() if value is not None}
    command = [python, "-m", here.train, *overrides, f"{here.paths}.models={quote(str(folder))}"]
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                if re.match(r"epoch \d", line):
                    print(f"\n  {line.rstrip()}", end="")
        except BaseException:  # whoever stops us, stops it
            process.kill()
            raise
    if process.returncode:
        raise RerunFailed("\n".join(lines[-LAST_LINES:]))
    (directory,) = (path.parent for path in folder.glob(f"*/{RECORD}"))
    record = json.loads((directory / RECORD).read_text())
    if (directory / PROBE).exists():
        seen = json.loads((directory / PROBE).read_text())
        record |= {"environment": seen["environment"], "inputs": record["inputs"] | {"outside": seen["outside"]}}
    return recorded_result(directory, record)


def recorded_library(tree: Path) -> list[str]:
    """Unpack the wheel of the library that a recorded tree has locked; return where, or nothing if it has no lock."""
    lock, target = tree / "requirements/samebits.txt", tree / ".samebits"
    locked = re.search(r"vendor/samebits-\S+\.whl", lock.read_text(encoding="utf-8")) if lock.exists() else None
    if locked is None:
        return []
    if not (tree / locked[0]).exists():
        raise UserError(f"the recorded code has no {locked[0]}, which it was trained with: leave out CODE= and FRESH=.")
    if not target.exists():
        with zipfile.ZipFile(tree / locked[0]) as wheel:
            wheel.extractall(target)
    return [str(target)]


@dataclass(frozen=True)
class Options:
    """How a run is verified."""

    probe: bool = False  # only the first traced steps
    recorded_code: bool = False  # train with the recorded state of the code, not with the one here
    fresh: bool = False  # with that, in an environment that is installed anew from its lock
    operator: bool = False  # name the first differing operator, wherever the first diverging step is
    by: str | None = None  # who verifies, for the verdict's file


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
        self.overrides: list[str] | None = None  # where the settings here differ from the saved ones
        self.machine: dict[str, object] = {}  # that trained again

    @cached_property
    def recorded_tree(self) -> Path:
        """The recorded state of the code, written to a folder when it is first used; a UserError where it is lost."""
        tree = self.folder / "recorded"
        provenance_diff.export_code(self.record, self.run, tree)
        return tree

    def verdict(self) -> Verdict:
        """Find the verdict; a UserError says why nothing can be compared."""
        if found := contradictions(self.run, self.record):
            return self._make(Kind.TAMPERED, causes=found)
        self.cfg = read_config(self.run, self.root)
        make_available(self.cfg)
        if data := provenance_diff.data_differences(self.record, self.cfg):
            return self._make(Kind.DIFFERENT_INPUTS, inputs=data)
        self.original = recorded_result(self.run, self.record)
        if self.options.probe:  # the steps that the trace has without a gap, from the first on
            steps = [row["step"] for row in self.original.rows if "batch" in row]
            self.upto = next((before for before, step in enumerate(steps) if step != before + 1), len(steps))
            if not self.upto:
                mend = f"use `make reproduce RUN={self.run}`"
                raise UserError(f"{self.run} has no trace of first steps, which a probe compares: {mend}.")
        inputs = self._choose_code()
        try:
            return self._judge(self._train(), inputs)
        except RerunFailed as error:
            if not inputs:
                raise UserError(f"{self.run} could not be trained again; its last lines were:\n{error}") from error
            last = f"training with them fails: {str(error).splitlines()[-1]}"
            return self._make(Kind.DIFFERENT_INPUTS, inputs=inputs, diff=self._code_diff(inputs), causes=[last])

    def _judge(self, first: Result, inputs: list[Difference]) -> Verdict:
        self.machine = {"processor": first.environment["processor"]["model"], "system": first.environment["system"]}
        comparison = compare(self.original, first, self.upto)
        environment = provenance_diff.environment_differences(self.original.environment, first.environment)
        listed = {name.rpartition(" ")[2] for name, *_ in inputs}
        inputs = inputs + [row for row in self._loaded_otherwise(first) if row[0].rpartition(" ")[2] not in listed]
        found = {"inputs": inputs, "environment": environment, "comparison": comparison}
        if not comparison:
            return self._make(Kind.IDENTICAL, **found)
        if inputs:
            found["comparison"] = self._with_operator(comparison)
            changed = {name.rpartition(" ")[2] for name, *_ in inputs}
            suspected = [call for call in self._suspects(first) if call.partition(":")[0] in changed]
            return self._make(Kind.DIFFERENT_INPUTS, **found, diff=self._code_diff(inputs), suspects=suspected)
        if among_themselves := compare(first, self._train(), self.upto):
            found["comparison"] = self._with_operator(among_themselves, again=True)
            return self._make(Kind.NONDETERMINISTIC, **found, suspects=self._suspects(first))
        if self.original.rows and not comparison.divergence and not may_change_results(environment):
            causes = [f"{name}: the record says {a}, training gives {b}" for name, a, b in comparison.metrics]
            causes += [f"the tensor {name} is not what training gives" for name in comparison.tensors]
            causes.append("every traced step is the recorded one, and two trainings here agree on what comes out")
            return self._make(Kind.TAMPERED, **found, causes=causes)
        found["comparison"] = self._with_operator(comparison)
        patched = sorted(dict(first.environment["patched"].items() - self.original.environment["patched"].items()))
        causes = [f"{name} is not as its package was installed, nor as it was recorded" for name in patched]
        if causes[MOST_CAUSES:]:
            causes[MOST_CAUSES:] = [f"and {len(causes) - MOST_CAUSES} more files; see the table"]
        suspected = [] if may_change_results(environment) else self._suspects(first)
        return self._make(Kind.ENVIRONMENT, **found, causes=causes, suspects=suspected)

    def _loaded_otherwise(self, result: Result) -> list[Difference]:
        """List what a re-run loaded that is not as recorded: another contract of the library, code from elsewhere."""
        known, loaded = self.original.inputs["outside"], result.inputs["outside"]
        return provenance_diff.contract_difference(self.original.inputs, result.inputs) + [
            (f"code outside of the package {name}", known.get(name, NOTHING)[:12], sha256[:12])
            for name, sha256 in loaded.items()
            if known.get(name) != sha256
        ]

    def _suspects(self, result: Result) -> list[str]:
        source = replace(project(), root=self.tree).source
        files = {name: source / name for name in result.inputs["code"]}
        files |= {name: self.tree / name for name in result.inputs["outside"]}
        return suspects(files)

    # --- training again

    def _choose_code(self) -> list[Difference]:
        """Decide which code trains; return how it differs from the recorded inputs."""
        if not (self.options.recorded_code or self.options.fresh):
            settings, self.overrides = provenance_diff.settings_differences(self.record)
            return provenance_diff.code_differences(self.record) + settings
        self.tree = self.recorded_tree
        if self.options.fresh and project().adopted:
            raise UserError("--fresh needs a lock of the packages, which this project has not: leave it out.")
        if self.options.fresh:
            print("Installing the recorded packages into a new environment.", flush=True)
            left_out = ("PYTHONPATH", "VIRTUAL_ENV", "EXTRAS")
            kept = {name: value for name, value in os.environ.items() if name not in left_out}
            install = ["sh", "requirements/install.sh"]
            installed = subprocess.run(install, cwd=self.tree, env=kept | {"VENV": ".venv"})
            if installed.returncode:
                raise UserError("the recorded packages cannot be installed; the lines above say why.")
            self.python = str(self.tree / ".venv/bin/python")
        return []

    def _train(self, *more: str, tree: Path | None = None, upto: int | None = None) -> Result:
        self.reruns += 1
        upto = upto or self.upto
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
            return rerun(overrides, folder, tree or self.tree, project().name, self.python, cfg.determinism)
        finally:
            print(f" ({time.monotonic() - started:.0f} s)", flush=True)

    @cached_property
    def _settings(self) -> Path:
        """The run's settings in a file, with the paths of the project whose data is read: a tree elsewhere has none."""
        path = self.folder / "settings" / CONFIG
        path.parent.mkdir()
        path.write_text(OmegaConf.to_yaml(self.cfg), encoding="utf-8")
        return path

    def _with_operator(self, comparison: Comparison, again: bool = False) -> Comparison:
        """Name the first differing operator, if asked to and if it is not known yet."""
        first = comparison.divergence
        if not self.options.operator or first is None or first.operator or first.step == 0:
            return comparison
        steps = range(first.since + 1, first.step + 1)  # those that were not traced may hold the first to differ
        more = f"callbacks.trace.operators={list(steps)}".replace(" ", "")
        if again:
            sides = [self._train(more, upto=first.step) for _ in range(2)]
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
        return Verdict(kind, self.record["run"], self.upto, **{**about, **found})


def verify(run: Path, options: Options, keep: bool = True, root: Path | None = None) -> Verdict:
    """Check a run, train it again on the data of `root`, and find the verdict.

    One that went through the whole run is written beside it, if it is to be kept. A UserError says why nothing could be
    compared.
    """
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        verification = Verification(run, options, Path(folder), root)
        verdict = verification.verdict()
    verdict.details = {
        "record": verification.record["sha256"],
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "by": options.by,
        "code": "recorded" if options.recorded_code or options.fresh else "here",
        "fresh_environment": options.fresh,
        "machine": verification.machine | {"python": platform.python_version()},
    }
    if keep and not options.probe:
        write_verdict(run, verdict)
        write_reproducibility_report(verification.root)
    return verdict


def main(arguments: argparse.Namespace) -> None:
    """Print the verdict; the exit status is 0 where it is IDENTICAL, else 1, and 2 where nothing could be compared."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that nothing is left behind
    run = arguments.run or newest_run()
    options = Options(arguments.probe, arguments.code == "recorded", arguments.fresh, arguments.op, arguments.by)
    kept = not arguments.no_file
    if arguments.json:  # all that is printed on the way, also by what is started, goes to stderr
        sys.stdout.flush()
        out = os.dup(1)
        os.dup2(2, 1)
    with nothing_compared():
        verdict = verify(run, options, keep=kept)
    if arguments.json:
        sys.stdout.flush()
        os.dup2(out, 1)
        print(verdict.as_json())
    else:
        print_verdict(verdict, run, kept)
    raise SystemExit(verdict.status)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        description="Train a run again and compare every step, tensor and metric with its record.",
        epilog="Exit status: 0 identical, 1 different, 2 nothing could be compared.",
    )
    described.add_argument("run", nargs="?", type=Path, help="folder of a run (default: the one that finished last)")
    described.add_argument("--probe", action="store_true", help="only the first steps, in seconds")
    described.add_argument("--code", choices=("here", "recorded"), default="here", help="which code trains (here)")
    described.add_argument("--fresh", action="store_true", help="also install the run's packages anew, from its lock")
    described.add_argument("--op", action="store_true", help="name the first differing operator (trains more)")
    described.add_argument("--by", metavar="NAME", help="who verifies; written into the verdict's file")
    described.add_argument("--no-file", action="store_true", help="write neither the verdict nor reproduction.md")
    described.add_argument("--json", action="store_true", help="print the verdict as JSON")
    return described
