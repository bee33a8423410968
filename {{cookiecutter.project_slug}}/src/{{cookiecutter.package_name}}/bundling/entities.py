"""Pieces of a crate's description: people, licences, kinds of files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ..about import Project

SPDX = "https://spdx.org/licenses/"
ENCODINGS = {
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".ipynb": "application/json",
    ".yaml": "application/yaml",
    ".cff": "application/yaml",
    ".lock": "application/yaml",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".html": "text/html",
    ".txt": "text/plain",
    ".patch": "text/plain",
    ".gz": "application/gzip",
    ".zip": "application/zip",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".npy": "application/x-npy",
    ".parquet": "application/x-parquet",
}


def some(values: list[Any]) -> Any:
    """Return a list as it is, but the one thing in a list of one: JSON-LD is written so."""
    return values[0] if len(values) == 1 else values


def encoding(name: str) -> str:
    """Name the media type of a file by its suffix; the host's own table would differ from host to host."""
    return ENCODINGS.get(Path(name).suffix.lower(), "text/plain" if name == "LICENSE" else "application/octet-stream")


def authors_of(crate: Any, project: Project) -> list[Any]:
    """Add the authors, each with an organisation: the affiliation, or whoever holds the repository."""
    from rocrate.model.contextentity import ContextEntity
    from rocrate.model.person import Person

    found = []
    owner = re.match(r"https?://[^/]+/([^/]+)", project.address or "")
    for number, author in enumerate(project.authors, 1):
        person = crate.add(Person(crate, author.orcid or f"#author-{number}", properties={"name": author.name}))
        name, address = author.affiliation, author.website
        if not name and owner:
            name, address = owner[1], owner[0]
        if name:
            identifier = address or f"#{re.sub(r'[^A-Za-z0-9]+', '-', name)}"
            properties = {"@type": "Organization", "name": name} | ({"url": address} if address else {})
            person["affiliation"] = crate.add(ContextEntity(crate, identifier, properties=properties))
        found.append(person)
    return found


def licence_of(crate: Any, project: Project) -> Any:
    """Add the project's licence: SPDX's page of it, or the file LICENSE."""
    from rocrate.model.contextentity import ContextEntity

    if project.licence:
        return _spdx(crate, project.licence)
    properties = {"@type": "CreativeWork", "name": "All rights reserved: see the file LICENSE"}
    return crate.add(ContextEntity(crate, "#LICENSE", properties=properties))


def data_licence(crate: Any, text: str | None) -> Any:
    """Add the licence that the data card names; None where it names none.

    Args:
        crate: that it is added to.
        text: of the card: `CC BY 4.0`, for example.
    """
    from rocrate.model.contextentity import ContextEntity

    if not text:
        return None
    if re.fullmatch(r"CC[ -](BY|BY-SA|BY-ND|BY-NC|BY-NC-SA|BY-NC-ND)[ -]\d\.\d", text) or re.fullmatch(
        r"CC0[ -]1\.0|PDDL-1\.0|ODbL-1\.0|ODC-By-1\.0|MIT|Apache-2\.0", text
    ):
        return _spdx(crate, text.replace(" ", "-"))
    identifier = text if urlparse(text).scheme in ("http", "https") else "#licence-of-the-data"
    return crate.add(ContextEntity(crate, identifier, properties={"@type": "CreativeWork", "name": text}))


def _spdx(crate: Any, identifier: str) -> Any:
    from rocrate.model.contextentity import ContextEntity

    properties = {"@type": "CreativeWork", "name": identifier, "url": f"{SPDX}{identifier}"}
    return crate.add(ContextEntity(crate, f"{SPDX}{identifier}", properties=properties))
