"""A verdict as a person reads it: what was found, what it rests on, what to do next."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .differences import Difference
from .verdict import Comparison, Kind, Verdict, telling

MOST_LINES = 40  # of a diff, and rows of a table; the verdict's file has all
SIDES = ("recorded", "here")
COMMITTED = ("models/main", "reports/")  # what Git keeps
COLOURS = {Kind.IDENTICAL: "bold green", Kind.TAMPERED: "bold red"}


def console_for_people() -> Console:
    """Make a console: coloured on a terminal; elsewhere without colours, and wide enough for two hashes."""
    return Console(highlight=False, soft_wrap=True, width=None if os.isatty(1) else 110)


def print_verdict(verdict: Verdict, run: Path, kept: bool) -> None:
    """Print a verdict.

    Args:
        verdict: what was found.
        run: the run's directory.
        kept: whether the verdict has been written down.
    """
    console = console_for_people()
    name = os.path.relpath(run)
    console.print()
    title = verdict.kind.title + (" so far" if verdict.steps and verdict.kind is Kind.IDENTICAL else "")
    console.print(title, style=COLOURS.get(verdict.kind, "bold yellow"), end="")
    console.print(f"   {verdict.run}" + (f" (in {name})" if run.name != verdict.run else ""), markup=False)
    for line in _meaning(verdict):
        console.print(f"  {line}", markup=False)
    for cause in verdict.causes:
        console.print(f"  - {cause}", markup=False)
    print_table(console, "Inputs that are not the recorded ones", verdict.inputs, SIDES)
    print_diff(console, verdict.diff)
    if verdict.comparison:
        sides = ("first", "second") if verdict.kind is Kind.NONDETERMINISTIC else SIDES
        print_results(console, verdict.comparison, verdict.compared["tensors"], sides)
    print_table(console, "The environment, as recorded and here", verdict.environment, SIDES)
    if verdict.suspects:
        console.print("\nCalls in the code that ask for what no record holds:", markup=False)
        for each in verdict.suspects[:MOST_LINES]:
            console.print(f"  {each}", markup=False)
    console.print("\nNext:", style="bold")
    for line in _next(verdict, name, kept):
        console.print(f"  {line}", markup=False)


def _meaning(verdict: Verdict) -> list[str]:
    compared, trained = verdict.compared, verdict.comparison is not None
    if verdict.kind is Kind.IDENTICAL:
        if verdict.steps:
            what = f"the first {verdict.steps} steps, with the batch, loss, gradients and weights of each"
        else:
            what = f"{compared['rows']} rows of the trace, {compared['tensors']} tensors, {compared['metrics']} metrics"
        lines = [f"Trained again from the same data, and compared bit for bit: {what}. All are the same."]
        if verdict.inputs:
            lines.append("The code or the settings have changed since, and the change does not alter the results.")
        if verdict.environment:
            lines.append("The environment is not quite the recorded one, and that does not alter the results.")
        return lines
    if verdict.kind is Kind.DIFFERENT_INPUTS:
        first = verdict.comparison.divergence if verdict.comparison else None
        lines = ["What a run is made of is not the same here as in the record; see the table."]
        if first:
            lines.append(f"The change alters the results from {first.when()} on: {first.where()}.")
        elif not trained and not verdict.causes:
            lines.append("So nothing was trained: mend the data first, then compare.")
        return lines
    if verdict.kind is Kind.TAMPERED:
        return ["The parts of the record contradict each other, so something was edited or exchanged after the run:"]
    if verdict.kind is Kind.NONDETERMINISTIC:
        return ["Trained twice here, from the same inputs, and the two disagree: the code is not deterministic."]
    lines = ["Trained twice here, with the same result, which is not the recorded one: the inputs are the same,"]
    known = "so the difference lies in the environment; see the table."
    silent = "and nothing in the environment that is recorded differs: look for what the code reads besides its inputs."
    return [*lines, known if telling(verdict.environment) else silent]


def print_diff(console: Console, diff: str) -> None:
    """Print the beginning of a diff."""
    lines = diff.splitlines()
    if lines:
        console.print("\n" + "\n".join(lines[:MOST_LINES]), markup=False)
    if len(lines) > MOST_LINES:
        console.print(f"  ... and {len(lines) - MOST_LINES} more lines", markup=False)


def print_results(console: Console, comparison: Comparison, tensors: int, sides: tuple[str, str]) -> None:
    """Print where two trainings part ways, and how far they are apart."""
    console.print("\nWhere the results part ways", style="bold")
    first = comparison.divergence
    if first:
        console.print(f"  first at {first}: {first.meaning()}", markup=False)
    if comparison.distance:
        console.print(f"  weights: {comparison.distance}", markup=False)
    elif comparison.tensors:
        console.print(f"  weights: {len(comparison.tensors)} of {tensors} tensors differ", markup=False)
    for name, mine, theirs in comparison.metrics:
        console.print(f"  {name}: {mine} {sides[0]}, {theirs} {sides[1]}", markup=False)


def print_table(console: Console, title: str, rows: list[Difference], sides: tuple[str, str]) -> None:
    """Print what differs, with the values of both sides."""
    if not rows:
        return
    table = Table(
        title=f"\n{title}", title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2)
    )
    for column in ("  what", *sides):
        table.add_column(column, overflow="fold")
    for name, mine, theirs in rows[:MOST_LINES]:
        table.add_row(f"  {name}", mine, theirs)
    console.print(table, markup=False, soft_wrap=False)
    if len(rows) > MOST_LINES:
        console.print(f"  ... and {len(rows) - MOST_LINES} more", markup=False)


def _next(verdict: Verdict, name: str, kept: bool) -> list[str]:
    if verdict.kind is Kind.IDENTICAL:
        if verdict.steps:
            return [f"make reproduce RUN={name}   goes through the whole run and keeps the verdict"]
        if not kept:
            return ["nothing: the results stand"]
        lines = [f"git add {name}/verdicts reports/reproduction.md   keeps this confirmation with the project"]
        return lines if name.startswith(COMMITTED) else ["reports/reproduction.md   says it for a paper"]
    if verdict.kind is Kind.TAMPERED:
        if verdict.causes and verdict.causes[0].startswith("the directory is called"):
            return [f"mv {name} {Path(name).parent / verdict.run}   gives it its name back"]
        if name.startswith(COMMITTED):
            return [f"git log --patch -- {name}   shows when a file changed, and git checkout -- {name} restores it"]
        return [
            f"mv {name} <elsewhere>, then {verdict.command}   trains it anew; nothing else can restore what was edited",
        ]
    if verdict.kind is Kind.NONDETERMINISTIC:
        first = verdict.comparison.divergence if verdict.comparison else None
        known = first is None or first.operator or first.step == 0
        return [
            *([] if known else [f"make reproduce RUN={name} OP=1   names the first operator that differs"]),
            "Look there for the clock, a generator without a seed, the order of a set, or threads that race.",
        ]
    if verdict.kind is Kind.ENVIRONMENT:
        portable = "train with determinism=portable, which gives the same bits on other processors;"
        return [
            f"make reproduce RUN={name} FRESH=1   compares again, with the recorded packages and the recorded code",
            *([] if verdict.portable else [f"If it says the same: {portable} or"]),
            "look for files and variables that the code reads and that are no inputs; where nothing can be mended,",
            "say in the paper how far the results are apart, as reports/reproduction.md does.",
        ]
    if any(each[0].startswith("data ") for each in verdict.inputs):
        return [
            "make data   fetches and prepares the data as configs/data/ pins it, if that is still the run's",
            "git log -- configs/data dvc.lock   shows when it changed, if not",
        ]
    renew = (
        "make reference makes it the new reference" if name.startswith("reports/") else f"{verdict.command} trains it"
    )
    return [
        f"make reproduce RUN={name} CODE=recorded   trains with the code of the run: is the record itself sound?",
        f"If the change is meant: {renew}; new inputs are a new run",
    ]
