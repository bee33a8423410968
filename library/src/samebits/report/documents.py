"""The report's documents, from the templates beside this file: the page, the model card, the checklist for a paper.

What they say of the project comes from CITATION.cff and pyproject.toml: who made it, what it is called, its licence.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml

from ..engine.errors import UserError
from ..engine.files import json_sha256, write_atomically
from ..engine.inputs import read_card, section
from ..engine.printing import code, markdown, printable
from ..engine.project import project as this_project
from ..verify.verdict_files import UNSIGNED
from . import tables
from .figures import Figure
from .runs import Experiment, FinishedRun
from .tables import estimates, hours, size

TEMPLATES = Path(__file__).parent
CITATION, PROJECT = "CITATION.cff", "pyproject.toml"
REMOTE = re.compile(r"(?:ssh://(?:[^@/]+@)?|[^@/\s]+@)([\w.-]+\.\w+)(?::\d+/|[:/])(.+?)(?:\.git)?/?")  # over SSH
CARD = ("title", "licence", "address")  # of the data
WEB = re.compile(r"(?i)https?://[^\s<>\"\\`|]+")  # addresses that become links
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
    """What the project says of itself."""

    slug: str  # its name as a package
    title: str  # for people
    description: str  # one line
    licence: str | None  # an SPDX identifier
    authors: list[Author]  # at least one
    address: str | None  # of the repository


def read_project(root: Path) -> Project:
    """Read the two files; a UserError where one is damaged, or names no author."""
    try:
        project = tomllib.loads((root / PROJECT).read_text(encoding="utf-8"))["project"]
        slug = str(project["name"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{PROJECT} cannot be read ({error}): mend it, then run this again.") from error
    path = root / CITATION
    try:
        cited = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}
        listed = [_author(entry) for entry in cited.get("authors") or project.get("authors") or []]
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
    """Write a file from a template of Jinja and the parts that it asks for.

    Whatever the template says of these, they are text in the file's language: HTML, Markdown or LaTeX, with no markup,
    link or control character of their own. Filters that give markup, as `link` and `code`, are the only exceptions.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    html = template.suffix == ".html"
    write = {".html": escape, ".md": markdown, ".tex": tables.escape}[template.suffix]

    def text_alone(value: Any) -> Markup:
        return value if isinstance(value, Markup) else Markup(write(printable(value, lines=html)))

    def link(address: Any) -> Any:
        address = printable(address)
        if not WEB.fullmatch(address):
            return address
        return Markup(f'<a href="{escape(address)}">{escape(address)}</a>' if html else f"<{address}>")

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        finalize=text_alone,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "source": lambda figure: f"data:image/svg+xml;base64,{base64.b64encode(figure.svg).decode()}",
        "link": link,
        "code": lambda value: Markup(code(value)),
        "prose": lambda text: Markup(prose(printable(text, lines=True))),
        "comment": lambda value: Markup(printable(value)),
        "sha256": lambda text: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode(),
        "arguments": lambda each: (
            ", ".join(f"{k} {v}" for k, v in each.items() if not k.startswith("_")) if isinstance(each, dict) else each
        ),
        "hours": hours,
        "size": size,
        "section": section,
    }
    environment.filters |= filters
    text = environment.get_template(template.name).render(estimates=estimates, **parts)
    write_atomically(path, f"{text.rstrip()}\n".encode())


def prose(text: str) -> str:
    """Keep the Markdown of a text, but for HTML, and for links to elsewhere than the web."""
    parts = re.split(r"((?<!!)\[[^\[\]<>&\\`]*\]\(https?://[^\s()<>&]*\)|<https?://[^\s<>&]*>)", text)
    parts[::2] = [re.sub(r"[\[\]]", r"\\\g<0>", part.replace("&", "&amp;").replace("<", "&lt;")) for part in parts[::2]]
    return "".join(parts)


def write_page(path: Path, project: Project, figures: Sequence[Figure | None], template: Path, **parts: Any) -> None:
    """Write a page in HTML, with the figures in it: readable on a phone and in print, without a script."""
    named = {figure.name: figure for figure in figures if figure}
    write_document(path, template, project=project, figures=named, **parts)


def write_model_card(
    path: Path, project: Project, experiment: Experiment, run: FinishedRun, metrics: Sequence[str], root: Path
) -> None:
    """Write the card of a run's model, after Mitchell et al. (2019), "Model Cards for Model Reporting".

    The experiment gives the means of the metrics; `root`, the project's folder, the data card's section on limits.
    """
    inputs, code = run.record["inputs"], this_project()
    config, origin = inputs["config"], data_origin(run, run, root)
    card = _card(origin, root)
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    limits = re.search(r"^## Known limits\n+(.*?)(?=\n## |\Z)", text, re.M | re.S)
    write_document(
        path,
        TEMPLATES / "model-card.md",
        project=project,
        experiment=experiment,
        run=run,
        **{part: run.record[part] for part in ("source", "observed", "environment")},
        origin=origin,
        network=section(section(config, "model"), "network"),
        split=section(config, "data").get("split"),
        predict=f"{code.name}.predict" if (code.package / "predict.py").exists() else None,
        limits=limits[1].strip() if limits else None,
        metrics=[name for name in metrics if name in run.metrics],
        several=len(experiment.runs) > 1,
        means=estimates(experiment, metrics),
        settings=[(key, value) for key, value in run.settings.items() if key.split(".")[0] in SETTINGS],
    )


def write_checklist(path: Path, root: Path, experiments: Sequence[Experiment], **parts: Any) -> None:
    """Write the evidence for a paper's checklist: of all experiments of the report, and the parts that it shares."""
    runs = [run for experiment in experiments for run in experiment.runs]
    verdicts = [verdict for run in runs for verdict in run.verdicts]
    remotes = {str(run.record["source"]["remote"]) for run in runs if run.record["source"].get("remote")}
    write_document(
        path,
        TEMPLATES / "checklist.md",
        experiments=experiments,
        runs=runs,
        verdicts=verdicts,
        rerun=sum(bool(run.verdicts) for run in runs),
        named=sorted({str(verdict["by"]) for verdict in verdicts if verdict.get("by")}),
        signed=sum(verdict["signature"] != UNSIGNED for verdict in verdicts),
        remotes=sorted(remotes),
        changed=[run.id for run in runs if run.record["source"].get("changed")],
        origins=data_sets(experiments, root),
        alone=[experiment.name for experiment in experiments if len(experiment.runs) < 2],
        data_card=(root / "data/README.md").exists(),
        **parts,
    )


def _card(origin: dict[str, Any], root: Path) -> Path:
    """Find the data's card; one that a record has outside of the project's folder is none."""
    path = root / printable(origin.get("card"))
    with suppress(OSError):  # it is no name of a file
        if path.is_file() and path.resolve().is_relative_to(root.resolve()):
            return path
    return Path(os.devnull)


def data_origin(run: FinishedRun, main: FinishedRun, root: Path) -> dict[str, Any]:
    """Read where a run's data comes from; of the main run's data, title, licence and address as the card says now."""
    origin = run.record["inputs"].get("origin") or {}
    if not origin:  # of an adopted project, whose settings may call anything `data`
        return {}
    settings = [each.record["inputs"]["config"] for each in (run, main)]
    names = [section(each, "data").get("name") for each in settings]
    now = read_card(_card(origin, root)) if names[0] == names[1] else {}
    return {**origin, **{key: text for key, text in now.items() if text}}


def changed_card(run: FinishedRun, root: Path) -> list[str]:
    """Say that the card of a run's data is not as it was when the run was trained."""
    then, now = run.record["inputs"].get("origin") or {}, data_origin(run, run, root)
    changed = [key for key in CARD if then.get(key) != now.get(key)]
    what = " and ".join(changed).capitalize()
    return [f"{what} of the data: as {then.get('card')} says now, and not as {run.id} has recorded."] if changed else []


def data_sets(experiments: Sequence[Experiment], root: Path) -> list[dict[str, Any]]:
    """List the data sets behind the experiments, each once: what its card says, its files, and `of`, their names."""
    found: dict[str, dict[str, Any]] = {}
    for experiment in experiments:
        origin = data_origin(experiment.first, experiments[0].first, root)
        shown = {key: origin.get(key) for key in (*CARD, "card", "files")}
        if shown["files"]:
            found.setdefault(json_sha256(shown), {**shown, "of": []})["of"].append(experiment.name)
    return list(found.values())
