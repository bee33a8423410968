"""The model card of the main run, after Mitchell et al. (2019), "Model Cards for Model Reporting".

Written from the record alone; a section for which there are no facts is left out, and not filled with words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..about import Project
from ..config import PACKAGE
from ..repro.files import write_atomically
from ..verdicts.differences import flat
from .costs import HOUR, hours, size
from .experiments import Experiment
from .runs import FinishedRun
from .statistics import estimate

SETTINGS = ("model", "data", "trainer", "determinism")  # groups whose settings the card lists


def write_card(
    path: Path, project: Project, experiment: Experiment, run: FinishedRun, metrics: Sequence[str], root: Path
) -> None:
    """Write the file.

    Args:
        path: of it.
        project: for title, authors and licence.
        experiment: the run with its other seeds.
        run: the model that the card is of.
        metrics: to be shown.
        root: the project's folder, whose data card has a section on limits.
    """
    sections = [
        ("Model", _model(project, run)),
        ("How to use it", _use(run)),
        ("Training data", _data(run)),
        ("Known limits of the data", _limits(root, run)),
        ("Evaluation", _evaluation(experiment, run, metrics)),
        ("Training", _training(run)),
        ("Is it still so?", _verdicts(run)),
    ]
    front = ["---", f"license: {project.licence.lower()}", "---", ""] if project.licence else []
    text = [
        *front,
        f"# {_plain(project.title)}",
        "",
        _plain(project.description),
        "",
        "Written by `make report` from the run's record.",
        "",
    ]
    for title, lines in sections:
        if lines:
            text += [f"## {title}", "", *lines, ""]
    write_atomically(path, "\n".join(text).encode())


def _plain(text: str) -> str:
    """Write a text so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


def _model(project: Project, run: FinishedRun) -> list[str]:
    config, source = run.record["inputs"]["config"], run.record["source"]
    network = (config.get("model") or {}).get("network") or {}
    lines = [f"- Run: `{run.id}`, by {', '.join(author.name for author in project.authors)}"]
    if network.get("_target_"):
        rest = ", ".join(f"{key} {value}" for key, value in network.items() if not key.startswith("_"))
        lines.append(
            f"- Network: `{network['_target_']}` ({rest}), {run.record['observed']['parameters']:,} parameters"
        )
    lines.append(f"- Weights: `model.safetensors`, sha256 by content `{run.weights}`")
    if "commit" in source:
        changed = (
            f", and {len(source['changed'])} files that differed from it (`code.patch`)" if source["changed"] else ""
        )
        lines.append(
            f"- Code: commit `{source['commit']}`{changed}"
            + (f" of {source['remote']}" if source.get("remote") else "")
        )
    return [*lines, *([f"- Licence of the code: {project.licence}"] if project.licence else [])]


def _use(run: FinishedRun) -> list[str]:
    if not (PACKAGE / "predict.py").exists():
        return []
    command = f"python -m {PACKAGE.name}.predict <file> --run models/{run.directory.name}"
    return [f"`{command}`, on a CPU; `--help` says what it reads."]


def _data(run: FinishedRun) -> list[str]:
    origin = run.record["inputs"].get("origin") or {}
    lines = [
        f"- {label}: {origin[key]}" for key, label in (("title", "Title"), ("licence", "Licence")) if origin.get(key)
    ]
    lines += [f"- Persistent address: <{origin['address']}>"] if origin.get("address") else []
    lines += [
        f"- `{each['name']}`, sha256 `{each['sha256']}`, from `{each['uri']}`" for each in origin.get("files") or ()
    ]
    split = (run.record["inputs"]["config"].get("data") or {}).get("split")
    lines += ["- Split: " + ", ".join(f"{key} {value}" for key, value in split.items())] if split else []
    return lines


def _limits(root: Path, run: FinishedRun) -> list[str]:
    card = (run.record["inputs"].get("origin") or {}).get("card")
    path = root / str(card)
    if not card or not path.exists():
        return []
    match = re.search(r"^## Known limits\n+(.*?)(?=\n## |\Z)", path.read_text(encoding="utf-8"), re.M | re.S)
    return [match[1].strip(), "", f"(From `{card}`.)"] if match else []


def _evaluation(experiment: Experiment, run: FinishedRun, metrics: Sequence[str]) -> list[str]:
    several = len(experiment.runs) > 1
    lines = [f"| metric | this model |{f' mean of {len(experiment.runs)} seeds |' if several else ''}"]
    lines.append("|---|---|" + ("---|" if several else ""))
    for name in metrics:
        if name in run.metrics:
            mean = f" {estimate(list(experiment.values(name).values()))} |" if several else ""
            lines.append(f"| {name} | {run.metrics[name]:.4f} |{mean}")
    note = ["", "± is half the width of the mean's 95 % interval over seeds (Student's t)."] if several else []
    return [*lines, *note] if len(lines) > 2 else []


def _training(run: FinishedRun) -> list[str]:
    seen, there = run.record["observed"], run.record["environment"]
    gpu = f", {there['gpu']['model']}" if there["gpu"] else ""
    lines = [
        f"- By `{run.command}`, ended {seen['ended']}: {seen['steps']:,} steps in {hours(seen['wall_seconds'] / HOUR)},"
        f" {size(seen['peak_memory_bytes'])} of memory at most",
        f"- On {there['processor']['model']}{gpu}, {there['system']['os']}, Python {there['python']},"
        f" PyTorch {there['packages'].get('torch', 'of unknown version')}",
        f"- Seed {run.seed}; settings:",
        "",
        "| setting | value |",
        "|---|---|",
    ]
    config = run.record["inputs"]["config"]
    chosen = {key: value for key, value in flat(config).items() if key.split(".")[0] in SETTINGS}
    return [*lines, *(f"| {key} | `{value}` |" for key, value in chosen.items())]


def _verdicts(run: FinishedRun) -> list[str]:
    lines = []
    for each in run.verdicts:
        by = f" by {each['by']}" if each.get("by") else ""
        lines.append(f"- {each['when'][:10]}{by}: **{each['verdict']}**, {each['meaning']}")
    return [*lines, "", f"Again: `make reproduce RUN=models/{run.directory.name}`."] if lines else []
