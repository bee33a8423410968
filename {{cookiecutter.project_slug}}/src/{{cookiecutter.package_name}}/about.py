"""Who made the project, what it is called, and its licence: from CITATION.cff and pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import yaml

from .errors import UserError

CITATION, PROJECT = "CITATION.cff", "pyproject.toml"
REMOTE = re.compile(r"(?:ssh://(?:[^@/]+@)?|[^@/\s]+@)([\w.-]+\.\w+)(?::\d+/|[:/])(.+?)(?:\.git)?/?")  # over SSH


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
