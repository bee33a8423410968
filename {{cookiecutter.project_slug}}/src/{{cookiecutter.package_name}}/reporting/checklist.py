"""Evidence for the paper checklist of NeurIPS, as far as records can give it: reports/checklist.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..about import Project
from ..repro.files import write_atomically
from .costs import HEADINGS, UNFINISHED, Cost, table
from .experiments import Experiment, data_sets
from .runs import FinishedRun
from .statistics import estimate

ANSWER = "**Answer:** ______ (yours: Yes, No or NA)"
HEADER = """# Evidence for a paper's checklist

Written by `make report` from the records of the runs. The numbers are those of the NeurIPS paper checklist; items that
no record can answer are left out. The answers are yours: what stands here is evidence for them, and where something is
missing it says so.

## Three words, and the command for each

| word | what is the same, and who does it | command |
|---|---|---|
| repeatability | same team, same data, same procedure | `make reproduce` |
| reproducibility | another team, same data, same procedure | `make reproduce BY="their name"`, in a clone or a bundle |
| replicability | same procedure, new data, best by another team | `make replicate DATA=<config>`: both side by side |

The first two as the ACM defines them (Artifact Review and Badging, version 1.1, 2020), the third as it and the US
National Academies (Reproducibility and Replicability in Science, 2019) do. "Results Reproduced" is a badge that others
than the authors give.
"""


def write_checklist(
    path: Path,
    experiments: Sequence[Experiment],
    metrics: Sequence[str],
    costs: Sequence[Cost],
    project: Project,
    root: Path,
) -> None:
    """Write the file.

    Args:
        path: of it.
        experiments: all of the report.
        metrics: that the report shows.
        costs: from `costs.write_costs`.
        project: for address and licence.
        root: the project's folder.
    """
    runs = [run for each in experiments for run in each.runs]
    sections = [
        ("4. Reproducibility of the results", _reproducibility(runs)),
        ("5. Open access to data and code", _access(experiments, project.address)),
        ("6. Settings and details of the experiments", _settings(experiments)),
        ("7. Statistical significance", _significance(experiments, metrics)),
        ("8. Compute", _compute(costs)),
        ("12. Licences of what was used", _licences(experiments)),
        ("13. New assets", _assets(project.licence, root)),
    ]
    text = "\n".join("\n".join([f"\n## {title}", "", ANSWER, "", *lines]) for title, lines in sections)
    write_atomically(path, f"{HEADER}{text}\n".encode())


def _reproducibility(runs: Sequence[FinishedRun]) -> list[str]:
    verdicts = [(run, each) for run in runs for each in run.verdicts]
    lines = [
        f"- {len(runs)} runs have a record (`record.json`) and a trace. `make reproduce RUN=models/<run>` re-runs one"
        " and compares every traced step, tensor and metric bit for bit."
    ]
    if not verdicts:
        return [*lines, "- No run has been re-run so far: `make reproduce`."]
    kinds = [str(each["verdict"]) for _, each in verdicts]
    counted = ", ".join(f"{kinds.count(kind)} × {kind}" for kind in sorted(set(kinds)))
    others = sorted({str(each["by"]) for _, each in verdicts if each.get("by")})
    signed = f" Signed by {', '.join(others)}." if others else " None is signed (`BY=`)."
    again = len({run.id for run, _ in verdicts})
    return [
        *lines,
        f"- Re-runs so far, of {again} of the {len(runs)} runs: {counted}.{signed} Details: `reproduction.md`.",
    ]


def _access(experiments: Sequence[Experiment], address: str | None) -> list[str]:
    runs = [run for each in experiments for run in each.runs]
    lines = [f"- Code: {address or 'no address is given in CITATION.cff'}; commands: README.md."]
    remotes = sorted({str(run.record["source"]["remote"]) for run in runs if run.record["source"].get("remote")})
    lines += [f"- The runs were trained in a clone of {', '.join(remotes)}."] if remotes else []
    changed = [run.id for run in runs if run.record["source"].get("changed")]
    if changed:
        lines.append(
            f"- {len(changed)} runs were trained with changes that were not committed (`code.patch`, `refs/runs/`):"
            f" {', '.join(f'`{each}`' for each in changed[:5])}{' and others' if len(changed) > 5 else ''}."
        )
    for origin in data_sets(experiments):
        where = origin.get("address") or "no persistent address in the data card"
        lines.append(f"- Data: {origin.get('title') or 'untitled'}, {where}.")
        lines += [f"  - `{each['name']}` from `{each['uri']}`, sha256 `{each['sha256']}`" for each in origin["files"]]
    return [*lines, "- One file with all of it, for a repository with a DOI: `make bundle`."]


def _settings(experiments: Sequence[Experiment]) -> list[str]:
    lines = ["- Every setting of every run: `models/<run>/config.yaml`; each default is explained in `configs/`."]
    for each in experiments:
        config = each.first.record["inputs"]["config"]
        data, optimizer = config.get("data") or {}, (config.get("model") or {}).get("optimizer") or {}
        said = [f"seeds {', '.join(map(str, each.seeds))}"]
        if data.get("split"):
            said.append("split " + ", ".join(f"{key} {value}" for key, value in data["split"].items()))
        if optimizer.get("_target_"):
            rest = ", ".join(f"{key} {value}" for key, value in optimizer.items() if not key.startswith("_"))
            said.append(f"optimiser {optimizer['_target_']} ({rest})")
        epochs = (config.get("trainer") or {}).get("max_epochs")
        said += [f"{epochs} epochs"] if epochs else []
        lines.append(f"- {each.name}: {'; '.join(said)}.")
    return [*lines, "- How these values were chosen is not in the records: say it in the paper."]


def _significance(experiments: Sequence[Experiment], metrics: Sequence[str]) -> list[str]:
    lines = []
    if any(len(each.runs) > 1 for each in experiments):
        lines.append("- Error bars: 95 % intervals of the mean over seeds (Student's t, so normal spread is assumed).")
        lines.append(
            "- Within an experiment the seed varies, and settings that follow it; the data and their split do not."
        )
    for each in experiments:
        found = [f"{name} {estimate(list(each.values(name).values()))}" for name in metrics if each.values(name)]
        lines.append(f"- {each.name}, {_seeds(each)}: {', '.join(found)}.")
    alone = [each.name for each in experiments if len(each.runs) < 2]
    lines += [f"- Without an interval, for want of a second seed: {', '.join(alone)}."] if alone else []
    return lines


def _seeds(experiment: Experiment) -> str:
    return "one seed" if len(experiment.runs) == 1 else f"{len(experiment.runs)} seeds"


def _compute(costs: Sequence[Cost]) -> list[str]:
    machines = sorted({name for each in costs for name in each.machines})
    lines = [*table(HEADINGS, costs), "", f"- Machines: {'; '.join(machines)}. Each run's: `compute.md`."]
    if not any(each.name == UNFINISHED for each in costs):
        lines.append(
            "- No unfinished run is in models/ here; those deleted, or left on another computer, cannot be counted."
        )
    return lines


def _licences(experiments: Sequence[Experiment]) -> list[str]:
    lines = [
        f"- Data: {origin.get('title') or 'untitled'}: {origin.get('licence') or 'no licence in the data card'}."
        for origin in data_sets(experiments)
    ]
    return [*lines, "- Software: the packages in requirements/, each under its own licence; cite those you build on."]


def _assets(licence: str | None, root: Path) -> list[str]:
    return [
        f"- Code: {f'licence {licence} (LICENSE)' if licence else 'all rights reserved (LICENSE)'}.",
        "- Weights: described by `model-card.md`; say under which licence you give them.",
        f"- Data card: {'data/README.md' if (root / 'data/README.md').exists() else 'missing: write data/README.md'}.",
    ]
