"""The five verdicts on a run that was trained again: on the terminal, as JSON beside the run, in prose for a paper."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..engine.errors import UserError
from ..engine.files import write_atomically
from ..engine.printing import code, markdown
from ..engine.project import project
from ..engine.record import read_finished
from ..engine.secrets import redact
from ..engine.trace_reader import Divergence
from .comparison import Comparison, WeightDiff, places, print_diff, print_results, print_table, terminal
from .environment_diff import LOADED, in_words, may_change_results
from .provenance_diff import MOST_LINES, Difference, is_code
from .verdict_files import UNSIGNED, VERDICTS, Kind, read_verdicts, seal

REPORT = "reports/reproduction.md"
SIDES = ("recorded", "here")
COMMITTED = ("models/main", "reports/")  # what Git keeps


@dataclass
class Verdict:
    """A verdict and its evidence."""

    kind: Kind
    run: str  # its id
    steps: int | None = None  # the last one that was compared; None where all were
    causes: list[str] = field(default_factory=list)  # each a sentence
    inputs: list[Difference] = field(default_factory=list)  # code, settings, lock, data, files from elsewhere
    diff: str = ""  # of the code, short
    environment: list[Difference] = field(default_factory=list)
    comparison: Comparison | None = None  # None where nothing was trained
    compared: dict[str, int] = field(default_factory=dict)  # how many rows, tensors, metrics
    suspects: list[str] = field(default_factory=list)  # what the code did that may be the reason, by its lines
    command: str = "make train"  # that trains the run
    portable: bool = False  # whether it promises the same bits on other processors
    remarks: list[str] = field(default_factory=list)  # what is known besides, and alters nothing
    details: dict[str, Any] = field(default_factory=dict)  # for machines: who, when, where, on which record
    kept: bool = True  # whether its file is beside the run

    @property
    def status(self) -> int:
        """The exit status."""
        return 0 if self.kind is Kind.IDENTICAL else 1

    def as_json(self) -> str:
        """Give everything as JSON, sealed; logins in addresses are left out."""
        found = {"verdict": self.kind.title, "meaning": self.kind.value, **asdict(self), **self.details}
        plain = json.loads(
            json.dumps({key: value for key, value in found.items() if key not in ("kind", "details", "kept")})
        )
        return json.dumps(seal(redact(plain)), indent=2)


COLOURS = {Kind.IDENTICAL: "bold green", Kind.TAMPERED: "bold red"}


def print_verdict(verdict: Verdict, run: Path, kept: bool) -> None:
    """Print a verdict on a run's directory, and what to do next; `kept` says whether it has been written down."""
    console = terminal()
    name = os.path.relpath(run)
    console.print()
    so_far = " so far" if verdict.steps and verdict.kind is Kind.IDENTICAL else ""
    console.print(verdict.kind.title + so_far, style=COLOURS.get(verdict.kind, "bold yellow"), end="")
    console.print(f"   {verdict.run}" + (f" (in {name})" if run.name != verdict.run else ""))
    for line in [
        *_meaning(verdict),
        *(f"- {cause}" for cause in verdict.causes),
        *map(project().commands, verdict.remarks),
    ]:
        console.print(f"  {line}")
    print_table(console, "Inputs that are not the recorded ones", verdict.inputs, SIDES)
    print_diff(console, verdict.diff)
    if verdict.comparison:
        sides = ("first", "second") if verdict.kind is Kind.NONDETERMINISTIC else SIDES
        print_results(console, verdict.comparison, verdict.compared["tensors"], sides)
    print_table(console, "The environment, as recorded and here", in_words(verdict.environment), SIDES)
    if more := [call for call in verdict.suspects if call not in verdict.causes]:
        console.print()
        console.print(
            "Done by the code until then, and in no record (`samebits lint --rules` says what to do instead):"
        )
        for call in more[:MOST_LINES]:
            console.print(f"  {call}")
    console.print()
    console.print("Next:", style="bold")
    for line in _next(verdict, name, kept):
        console.print(f"  {project().commands(line)}")


def _meaning(verdict: Verdict) -> list[str]:
    compared = verdict.compared
    first = verdict.comparison.divergence if verdict.comparison else None
    if verdict.kind is Kind.IDENTICAL:
        if verdict.steps:
            what = f"the first {verdict.steps} steps, with the batch, loss, gradients and weights of each"
        else:
            what = f"{compared['rows']} traced steps and evaluations, {compared['tensors']} tensors of weights"
            what += f", {compared['metrics']} metrics"
        lines = [f"Trained again from the same data, and compared bit for bit: {what}. All are the same."]
        if verdict.inputs:
            code = any(map(is_code, verdict.inputs))
            what = "The code has" if code else "What it reads besides its data has"
            lines.append(f"{what} changed since, and the change does not alter the results.")
        if verdict.environment:
            packages = [row for row in verdict.environment if row[0].startswith("packages.")]
            changes = ", ".join(f"{name.partition('.')[2]} {mine} → {theirs}" for name, mine, theirs in packages[:4])
            listed = f" ({changes}{', ...' if packages[4:] else ''})" if packages else ""
            lines.append(f"The environment is not quite the recorded one{listed}, and that does not alter the results.")
        return lines
    if verdict.kind is Kind.DIFFERENT_INPUTS:
        lines = ["What a run is made of is not the same here as in the record; see the table."]
        if verdict.comparison is not None and all(row[0].startswith("stage ") for row in verdict.inputs):
            lines = [
                "The data are those of the run, but what makes them is not as it was then: they may come out otherwise."
            ]
        if first:
            lines.append(f"The change alters the results from {first.when()} on, first {first.where()}.")
        elif verdict.comparison is not None and not verdict.comparison:
            what = f"each of the first {verdict.steps} steps" if verdict.steps else "every result"
            lines.append(f"Trained all the same, and {what} is the recorded one, bit for bit.")
        elif verdict.comparison is None and any(row[0].startswith(("data ", "file of ")) for row in verdict.inputs):
            lines.append("So nothing was trained: mend that first, then compare.")
        return lines
    if verdict.kind is Kind.TAMPERED:
        return ["The parts of the record contradict each other, so something was edited or exchanged after the run:"]
    if verdict.kind is Kind.NONDETERMINISTIC:
        known = "; the likeliest causes first:" if verdict.causes else ": the code is not deterministic."
        return [f"Trained twice here, from the same inputs, and the two disagree{known}"]
    lines = ["Trained twice here, with the same result, which is not the recorded one: the inputs are the same,"]
    known = "so the difference lies in the environment; see the table."
    silent = "and nothing in the environment that is recorded differs: look for what the code reads besides its inputs."
    return [*lines, known if may_change_results(verdict.environment) else silent]


def _next(verdict: Verdict, name: str, kept: bool) -> list[str]:
    if verdict.kind is Kind.IDENTICAL:
        if verdict.steps:
            return [f"make reproduce RUN={name}   goes through the whole run and keeps the verdict"]
        if not kept or project().adopted:
            return ["nothing: the results stand"]
        lines = [f"git add {name}/verdicts reports/reproduction.md   keeps this confirmation with the project"]
        return lines if name.startswith(COMMITTED) else ["reports/reproduction.md   says it for a paper"]
    if verdict.kind is Kind.TAMPERED:
        if verdict.causes and verdict.causes[0].startswith("the directory is called"):
            return [f"mv {name} {Path(name).parent / verdict.run}   gives it its name back"]
        if name.startswith(COMMITTED):
            return [f"git log --patch -- {name}   shows when a file changed, and git checkout -- {name} restores it"]
        return [
            f"mv {name} <elsewhere>, then {verdict.command}   trains it anew; nothing else restores what was edited"
        ]
    if verdict.kind is Kind.NONDETERMINISTIC:
        first = verdict.comparison.divergence if verdict.comparison else None
        known = first is None or not first.operator_unknown
        return [
            *([] if known else [f"make reproduce RUN={name} OP=1   names the first operator that differs"]),
            "mend these lines, then train again   (samebits lint --rules says how)"
            if verdict.suspects
            else "Look there for the clock, a generator without a seed, the order of a set, or threads that race.",
        ]
    if verdict.kind is Kind.ENVIRONMENT:
        return _after_environment(verdict, name)
    outdated = any(row[0].startswith("stage ") for row in verdict.inputs)
    other_data = any(row[0].startswith("data ") for row in verdict.inputs)
    if outdated and not other_data:
        return [
            "make data   prepares the data that configs/train.yaml chooses, by what is here; then compare again.",
            "Where it finds nothing to do: name the file among the deps of its stage in dvc.yaml, then make data.",
        ]
    if outdated:
        return [
            "go back to the commit of the run for what the table names, then make data   prepares the run's data again",
            f"If the change is meant: {verdict.command} trains it; new inputs are a new run",
        ]
    if verdict.inputs and not any(map(is_code, verdict.inputs)) and not other_data:
        return [
            f"bring the {'file' if len(verdict.inputs) == 1 else 'files'} of the run back, and compare again",
            f"If the change is meant: {verdict.command} trains it; a setting that names the file makes it an input",
        ]
    if other_data and project().adopted:
        return ["bring the run's data back, and compare again; new data are a new run"]
    if other_data:
        return [
            "make data   fetches and prepares the data as configs/data/ pins it, if that is still the run's;",
            "make data DATA=<config>   does so for data that configs/train.yaml does not choose",
            "git log -- configs/data dvc.lock   shows when it changed, if not",
        ]
    if verdict.inputs and all(row[0].startswith("settings ") for row in verdict.inputs):
        again = f"make reproduce RUN={name}   trains the recorded settings: is the record itself sound?"
        return [again, f"If the change is meant: {verdict.command} trains it; new inputs are a new run"]
    reference = name.startswith("reports/")
    renew = "make reference makes it the new reference" if reference else f"{verdict.command} trains it"
    return [
        f"make reproduce RUN={name} CODE=recorded   trains with the code of the run: is the record itself sound?",
        f"If the change is meant: {renew}; new inputs are a new run",
    ]


def _after_environment(verdict: Verdict, name: str) -> list[str]:
    """Say what to try where the environment differs, by what of it does."""
    kinds = {row[0].partition(".")[0] for row in verdict.environment if may_change_results([row])}
    fresh = f"make reproduce RUN={name} FRESH=1   compares again, with the recorded packages and the recorded code"
    lines = []
    if kinds & {"packages", *LOADED}:
        by_hand = "install the recorded versions, which the table has, and compare again"
        lines.append(by_hand if project().adopted else fresh)
    if kinds & {"asked", "variables"}:
        lines.append("set the variables that the table names as they were for the record, and compare again")
    if "listed" in kinds:
        lines.append("see that the folders which the table names hold the files that they held, and compare again")
    if kinds & {"processor", "gpu", "libraries", "threads"} and not verdict.portable:
        lines.append("train with determinism=portable, which gives the same bits on other processors")
    return [
        *lines,
        f"{'else look' if lines else 'look'} for files and variables that the code reads and that are no inputs",
        "where nothing can be mended: say in the paper how far the results are apart, as reports/reproduction.md does",
    ]


HEADER = """# Reproduction

Written by `make reproduce` from the verdicts beside each run. A run was trained again from its recorded inputs, in a
process of its own; every traced step (batch, random numbers, loss, gradients, weights) and evaluation (weights, batch,
outputs, metrics), every tensor and every metric was compared bit for bit. Where no signature is named, the verdict is
not signed.
"""


def write_reproducibility_report(root: Path) -> None:
    """Write what the re-runs of all runs found, for a paper's appendix; the same verdicts give the same bytes."""
    if project().adopted:  # whose folders are its own
        return
    folders = sorted({path.parents[1] for place in places(root) for path in place.glob(f"*/{VERDICTS}/*.json")})
    sections = [section for folder in folders if (section := _section(folder, root))]
    (root / REPORT).parent.mkdir(exist_ok=True)
    write_atomically(root / REPORT, "\n".join([HEADER, *sections]).encode())


def _section(folder: Path, root: Path) -> str:
    try:
        record = read_finished(folder)
    except UserError:  # which a command that is given the run tells
        return ""
    environment, observed = record["environment"], record["observed"]
    commit = record["source"].get("commit")
    where = f" at commit {code(commit[:12])}" if commit else ""
    where += ", with changes that code.patch holds" if record["source"].get("changed") else ""
    made = (
        f"The run was trained on {markdown(observed['ended'][:10])}{where}, on"
        f" {markdown(environment['processor']['model'])} with Python {markdown(environment['python'])} and PyTorch"
        f" {markdown(environment['packages'].get('torch', 'of unknown version'))}."
        f" Its weights have the sha256 `{record['outputs']['weights']}` by content."
    )
    here = Kind.DIFFERENT_INPUTS.title  # says something of the code or data here, and nothing of the run
    verdicts, wrong = read_verdicts(folder, record)
    found = [_sentence(verdict) for verdict in verdicts if verdict["verdict"] != here]
    found += [f"- Not counted: {markdown(sentence)}." for sentence in wrong]
    return "\n".join([f"## {markdown(record['run'])}", f"({code(folder.relative_to(root))})\n", made, "", *found, ""])


def _sentence(verdict: dict[str, Any]) -> str:
    by = f" by {verdict['by']}" if verdict.get("by") else ""
    machine = verdict["machine"].get("processor")
    head = f"{verdict['when'][:10]}{by}" + (f", on {machine}" if machine else "")
    head += f", {verdict['signature']}" if verdict["signature"] != UNSIGNED else ""
    head += ", in an environment installed anew from the lock" if verdict["fresh_environment"] else ""
    head += ", with the code of the run" if verdict["code"] == "recorded" else ""
    head += ", with code or settings that have changed since" if verdict["inputs"] else ""
    text = f", {verdict['meaning']}."
    comparison = verdict.get("comparison") or {}
    first, distance = comparison.get("divergence"), comparison.get("distance")
    if first:
        text += f" The first difference is at {Divergence(**first)}."
    if distance:
        text += f" Of the weights, {WeightDiff(**distance)}."
    causes = (verdict["inputs"] + verdict["environment"])[:5] if first else []
    text += "".join(f" {name}: {a} and {b}." for name, a, b in [*comparison.get("metrics", []), *causes])
    return f"- {markdown(head)}: **{verdict['verdict']}**{markdown(text)}"
