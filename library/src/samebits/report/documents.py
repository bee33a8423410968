"""The report's documents, from the templates beside this file: the page, the model card, the checklist for a paper.

What they say of the project comes from CITATION.cff and pyproject.toml: who made it, what it is called, its licence.
"""

from __future__ import annotations

import base64
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

import yaml

from ..engine.errors import UserError
from ..engine.files import write_atomically
from ..engine.project import project as this_project
from ..verify.provenance_diff import flat
from .runs import Experiment, FinishedRun
from .tables import UNFINISHED, Cost, cost_table, estimates, hours, machines, size

if TYPE_CHECKING:
    from .figures import Figure

TEMPLATES = Path(__file__).parent
CITATION, PROJECT = "CITATION.cff", "pyproject.toml"
REMOTE = re.compile(r"(?:ssh://(?:[^@/]+@)?|[^@/\s]+@)([\w.-]+\.\w+)(?::\d+/|[:/])(.+?)(?:\.git)?/?")  # over SSH
SETTINGS = ("model", "data", "trainer", "determinism")  # groups whose settings the model card lists


@dataclass(frozen=True)
class Author:
    """One author; what CITATION.cff does not say is None."""

    name: str
    orcid: str | None = None
    affiliation: str | None = None
    website: str | None = None


@dataclass(frozen=True)
class Project:
    """What the project says of itself.

    Attributes:
        slug: its name as a package.
        title: for people.
        description: one line.
        licence: an SPDX identifier, or None.
        authors: at least one.
        address: of the repository, or None.
    """

    slug: str
    title: str
    description: str
    licence: str | None
    authors: list[Author]
    address: str | None


def read_project(root: Path) -> Project:
    """Read the two files.

    Raises:
        UserError: one is damaged, or names no author.
    """
    try:
        project = tomllib.loads((root / PROJECT).read_text(encoding="utf-8"))["project"]
        slug = str(project["name"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{PROJECT} cannot be read ({error}): mend it, then run this again.") from error
    path = root / CITATION
    try:
        cited = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}
        listed = [_author(each) for each in cited.get("authors") or project.get("authors") or []]
    except (yaml.YAMLError, AttributeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{CITATION} cannot be read ({reason}): mend it, then run this again.") from error
    authors = [author for author in listed if author.name]
    if not authors:
        raise UserError(f"{CITATION} names no author: write one under `authors:`, then run this again.")
    licence = project.get("license")
    return Project(
        slug=slug,
        title=str(cited.get("title") or slug),
        description=str(project.get("description") or cited.get("abstract") or ""),
        licence=licence if isinstance(licence, str) and not licence.startswith("LicenseRef-") else None,
        authors=authors,
        address=cited.get("repository-code"),
    )


def web_address(remote: str | None) -> str | None:
    """Turn the address of a Git remote into one for a browser; None where there is none, or it is a local path."""
    if match := REMOTE.fullmatch(remote or ""):
        return f"https://{match[1]}/{match[2].lstrip('/')}"
    parts = urlparse(remote or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path.removesuffix('.git').rstrip('/')}"


def _author(entry: dict[str, Any]) -> Author:
    family = " ".join(str(entry[key]) for key in ("name-particle", "family-names", "name-suffix") if entry.get(key))
    name = str(entry.get("name") or f"{entry.get('given-names') or ''} {family}".strip() or entry.get("alias") or "")
    return Author(name, entry.get("orcid"), entry.get("affiliation"), entry.get("website"))


def write_document(path: Path, template: Path, **parts: Any) -> None:
    """Write a document.

    Args:
        path: of the file.
        template: of Jinja; in HTML, what it is given is escaped.
        parts: what it asks for.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=template.suffix == ".html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"source": _source, "plain": _plain, "arguments": _arguments, "hours": hours, "size": size}
    text = environment.get_template(template.name).render(estimates=estimates, **parts)
    write_atomically(path, f"{text.rstrip()}\n".encode())


def write_page(
    path: Path, project: Project, figures: Sequence[Figure | None], template: Path | None = None, **parts: Any
) -> None:
    """Write a page in HTML, readable on a phone and in print, without a script.

    Args:
        path: of the file.
        project: for the heading.
        figures: all there are; they become part of the page.
        template: that of the report, by default.
        parts: what else it asks for.
    """
    named = {each.name: each for each in figures if each}
    write_document(path, template or TEMPLATES / "page.html", project=project, figures=named, **parts)


def write_model_card(
    path: Path, project: Project, experiment: Experiment, run: FinishedRun, metrics: Sequence[str], root: Path
) -> None:
    """Write the model card of a run, after Mitchell et al. (2019), "Model Cards for Model Reporting".

    Args:
        path: of the file.
        project: what it says of itself.
        experiment: the run with its other seeds.
        run: whose model the card is of.
        metrics: to be shown.
        root: the project's folder, whose data card has a section on limits.
    """
    inputs, code = run.record["inputs"], this_project()
    config, origin = inputs["config"], inputs.get("origin") or {}
    write_document(
        path,
        TEMPLATES / "model-card.md",
        project=project,
        experiment=experiment,
        run=run,
        **{part: run.record[part] for part in ("source", "observed", "environment")},
        origin=origin,
        network=(config.get("model") or {}).get("network") or {},
        split=(config.get("data") or {}).get("split"),
        predict=f"{code.name}.predict" if (code.package / "predict.py").exists() else None,
        limits=_limits(root / str(origin.get("card"))),
        metrics=[name for name in metrics if name in run.metrics],
        several=len(experiment.runs) > 1,
        means=estimates(experiment, metrics),
        settings=[(key, value) for key, value in flat(config).items() if key.split(".")[0] in SETTINGS],
    )


def write_checklist(
    path: Path,
    project: Project,
    experiments: Sequence[Experiment],
    metrics: Sequence[str],
    costs: Sequence[Cost],
    root: Path,
) -> None:
    """Write the evidence for a paper's checklist: of all experiments of the report, and `tables.costs` of them."""
    runs = [run for each in experiments for run in each.runs]
    verdicts = [each for run in runs for each in run.verdicts]
    write_document(
        path,
        TEMPLATES / "checklist.md",
        project=project,
        experiments=experiments,
        metrics=metrics,
        runs=runs,
        verdicts=verdicts,
        rerun=sum(bool(run.verdicts) for run in runs),
        signed=sorted({str(each["by"]) for each in verdicts if each.get("by")}),
        remotes=sorted({str(run.record["source"]["remote"]) for run in runs if run.record["source"].get("remote")}),
        changed=[run.id for run in runs if run.record["source"].get("changed")],
        origins=data_sets(experiments),
        alone=[each.name for each in experiments if len(each.runs) < 2],
        cost_table=cost_table(costs),
        machines=machines(costs),
        unfinished=any(each.name == UNFINISHED for each in costs),
        data_card=(root / "data/README.md").exists(),
    )


def data_sets(experiments: Sequence[Experiment]) -> list[dict[str, Any]]:
    """List the data sets behind the experiments, each once: what its card says, its files, and `of`, their names."""
    found: list[dict[str, Any]] = []
    for each in experiments:
        origin = each.first.record["inputs"].get("origin") or {}
        shown = {key: origin.get(key) for key in ("title", "licence", "address", "card", "files")}
        known = next((other for other in found if {**shown, "of": other["of"]} == other), None)
        if known:
            known["of"].append(each.name)
        elif shown["files"]:
            found.append({**shown, "of": [each.name]})
    return found


def _limits(card: Path) -> str | None:
    """Read the data card's section on limits; None where there is none."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    match = re.search(r"^## Known limits\n+(.*?)(?=\n## |\Z)", text, re.M | re.S)
    return match[1].strip() if match else None


def _source(figure: Figure) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(figure.svg).decode()}"


def _plain(text: str) -> str:
    """Write a text so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", text)


def _arguments(settings: dict[str, Any]) -> str:
    """Write the settings of an object, without what Hydra reads."""
    return ", ".join(f"{key} {value}" for key, value in settings.items() if not key.startswith("_"))
