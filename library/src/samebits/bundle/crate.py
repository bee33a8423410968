"""ro-crate-metadata.json: what the files of a bundle are to each other, as a Process Run Crate.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) with the profile https://w3id.org/ro/wfrun/process/0.5: the training is a
`CreateAction` of which the code is the instrument, data, settings and locks the object, and weights, metrics, trace and
record the result. Everything in it comes from the record and the project's files, so that it repeats byte for byte.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ..engine import record as records
from ..engine.files import file_sha256
from ..engine.git_snapshot import PATCH
from ..engine.project import project as this_project
from ..engine.record import CONFIG, HISTORY, METRICS, PREDICTIONS, RECORD, WEIGHTS, Record
from ..engine.trace_reader import TRACE
from ..report.documents import CITATION, Project, web_address
from ..verify.verdict_files import SIGNATURE

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
SPDX = "https://spdx.org/licenses/"
KNOWN_LICENCE = re.compile(  # of data
    r"CC[ -]BY(-SA|-ND|-NC|-NC-SA|-NC-ND)?[ -]\d\.\d|CC0[ -]1\.0|PDDL-1\.0|ODbL-1\.0|ODC-By-1\.0|MIT|Apache-2\.0"
)
MOST_LISTED = 100  # of the data files; of more, the record has the hashes
OUTPUTS = {
    WEIGHTS: "the weights",
    METRICS: "the metrics, exact",
    TRACE: "fingerprints of the training's steps",
    PREDICTIONS: "what the model says of every test sample",
    HISTORY: "the course of training",
    RECORD: "the record: inputs, environment, cost and digests of the outputs",
}
OTHERS = {  # files, and folders
    "configs/": "all settings that can be chosen",
    "tests/": "tests of the code",
    "notebooks/": "views of data and results",
    "reports/": "reports, metrics and verdicts in prose",
    "offline/": "the locked packages, and what else is needed where no network is",
    "README.md": "how to use the project",
    CITATION: "how to cite",
    "dvc.lock": "what was made of what, by hash",
}
MEDIA_TYPES = {  # the host's own table would differ from host to host
    **dict.fromkeys((".json", ".ipynb"), "application/json"),
    **dict.fromkeys((".yaml", ".cff", ".lock"), "application/yaml"),
    **dict.fromkeys((".txt", ".patch"), "text/plain"),
    **dict.fromkeys((".jpg", ".jpeg"), "image/jpeg"),
    ".jsonl": "application/x-ndjson",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".html": "text/html",
    ".gz": "application/gzip",
    ".zip": "application/zip",
    ".png": "image/png",
    ".npy": "application/x-npy",
    ".parquet": "application/x-parquet",
}
UNKNOWN = "application/octet-stream"


@dataclass
class Contents:
    """The files of a bundle."""

    root: Path  # of the project
    record: Record
    run: str  # the run's folder in the bundle, `models/main` for example
    files: dict[str, Path]  # where a file is read from, by its path in the bundle
    data: dict[str, str]  # sha256 of those that are data: what the run reads, and the raw files it was made of
    raw: str  # the folder of these files, as they are fetched
    remarks: list[str]  # what is not as it is here, in sentences for the user


def describe(contents: Contents, project: Project, with_data: bool) -> bytes:
    """Write the crate's description: of what is in the bundle, and of what the project says of itself."""
    return f"{json.dumps(_Crate(contents, project).build(with_data), indent=2, ensure_ascii=False)}\n".encode()


class _Crate:
    """A crate in the making."""

    def __init__(self, contents: Contents, project: Project) -> None:
        from rocrate.rocrate import ROCrate  # here, because --help shall start at once

        self.contents, self.project, self.record = contents, project, contents.record
        self.origin = contents.record["inputs"].get("origin", {})
        self.crate = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(CONTEXT)

    def build(self, with_data: bool) -> dict[str, Any]:
        record, project, run = self.record, self.project, self.contents.run
        started, ended = (record["observed"][time].replace("Z", "+00:00") for time in ("started", "ended"))
        authors = self.authors()
        text = project.description + ("" if project.description[-1:] in ".!?" else ".")
        text += (
            " A training run with all that it was made of: `make reproduce` trains it again and compares every step,"
        )
        text += " tensor and metric, bit for bit." + ("" if with_data else " Its data are named by address and sha256.")
        root = self.set(
            self.crate.root_dataset,
            name=f"{project.title}: {record['run']}",
            description=text.strip(),
            datePublished=ended[:10],
            license=self.licence(project.licence, "#LICENSE", "All rights reserved: see the file LICENSE"),
            author=authors,
            publisher=authors[0].get("affiliation"),
            conformsTo=self.entity(PROFILE, "CreativeWork", name="Process Run Crate", version="0.5"),
        )
        code = self.code(authors)
        data = self.data() if with_data else self.addresses(ended[:10])
        lock = [self.file(f"requirements/{name}", "the locked packages") for name in record["inputs"]["lock"]]
        made = [self.file(f"{run}/{name}", role) for name, role in OUTPUTS.items()]
        action = self.entity(
            "#training",
            "CreateAction",
            name=f"The training {record['run']}",
            description=records.command(record),
            startTime=started,
            endTime=ended,
            actionStatus="http://schema.org/CompletedActionStatus",
            agent=authors[0],
            instrument=code,
            object=[*data, self.file(f"{run}/{CONFIG}", "the settings, complete"), *lock],
            result=[output for output in made if output],
        )
        self.set(root, mentions=action)
        self.file(f"{run}/{PATCH}", "how the code differed from the commit")
        for name in sorted(self.contents.files):
            if name.startswith(f"{run}/verdicts/"):
                what = "the signature of a verdict" if name.endswith(SIGNATURE) else "a verdict"
                self.file(name, f"{what}: what training the run again has found")
        for name, role in OTHERS.items():
            if not name.endswith("/"):
                self.file(name, role)
            elif any(path.startswith(name) for path in self.contents.files):
                self.crate.add_dataset(dest_path=name, properties={"name": role})
        return dict(self.crate.metadata.generate())

    def set(self, entity: Any, **properties: Any) -> Any:
        """Set the properties that have a value, and return the entity; JSON-LD writes a list of one as the one."""
        for name, value in properties.items():
            if value not in (None, [], ""):
                entity[name] = value[0] if isinstance(value, list) and len(value) == 1 else value
        return entity

    def entity(self, identifier: str, kind: str, **properties: Any) -> Any:
        """Add something that is no file."""
        from rocrate.model.contextentity import ContextEntity

        return self.set(self.crate.add(ContextEntity(self.crate, identifier, properties={"@type": kind})), **properties)

    def file(self, name: str, role: str, **properties: Any) -> Any:
        """Add a file of the bundle; None where there is none of this name."""
        path = self.contents.files.get(name)
        if path is None:
            return None
        return self.set(
            self.crate.add_file(dest_path=name),
            name=Path(name).name,
            description=role,
            encodingFormat=MEDIA_TYPES.get(Path(name).suffix.lower(), UNKNOWN),
            contentSize=str(path.stat().st_size),
            sha256=self.contents.data.get(name) or file_sha256(path),  # that of the data has just been checked
            **properties,
        )

    def authors(self) -> list[Any]:
        """Add the authors, each with an organisation: the affiliation, or whoever holds the repository."""
        found = []
        owner = re.match(r"https?://[^/]+/([^/]+)", self.project.address or "")
        for number, author in enumerate(self.project.authors, 1):
            person = self.entity(author.orcid or f"#author-{number}", "Person", name=author.name)
            name, address = author.affiliation, author.website
            if owner and not name:
                name, address = owner[1], owner[0]
            if name:
                identifier = address or f"#{re.sub(r'[^A-Za-z0-9]+', '-', name)}"
                person["affiliation"] = self.entity(identifier, "Organization", name=name, url=address)
            found.append(person)
        return found

    def licence(self, spdx: str | None, identifier: str, name: str) -> Any:
        """Add a licence: SPDX's page of it, or what it is called."""
        url = f"{SPDX}{spdx}" if spdx else None
        return self.entity(url or identifier, "CreativeWork", name=spdx or name, url=url)

    def code(self, authors: list[Any]) -> Any:
        """Add the code; its version is the commit, or the hash of the package's files where there is none."""
        source = self.record["source"]
        state = source.get("commit") or source.get("tree")
        address = web_address(source.get("remote")) or web_address(self.project.address)
        return self.entity(
            f"{address}/tree/{state}" if address and "commit" in source else address or "#code",
            "SoftwareSourceCode",
            name=this_project().name,
            description="the code of the training; the packages that it needs are locked in requirements/",
            version=f"{state} with {self.contents.run}/{PATCH}" if source.get("changed") else state,
            url=address,
            codeRepository=address,
            author=authors,
            hasPart=self.crate.add_dataset(dest_path="src/", properties={"name": "the code of the training"}),
        )

    def data(self) -> list[Any]:
        """Add the data that are in the bundle, with their licence; many of them as folders."""
        names, card = list(self.contents.data), self.card()
        if len(names) <= MOST_LISTED:
            return [self.file(name, _role(name), **card) for name in names]
        found = []
        for folder in sorted({"/".join(name.split("/")[:2]) + "/" for name in names}):
            role = f"{_role(folder)}; {self.contents.run}/{RECORD} lists the sha256 of each file"
            entity = self.crate.add_dataset(dest_path=folder)
            found.append(self.set(entity, name=folder.split("/")[1], description=role, **card))
        return found

    def addresses(self, seen: str) -> list[Any]:
        """Add the data by address and sha256, also those without an address on the web (`pkg://`, for example)."""
        from rocrate.model.data_entity import DataEntity

        found, card = [], self.card()
        for file in self.origin.get("files", []):
            name = f"{self.contents.raw}/{file['name']}"
            path = self.contents.root / name
            other = DataEntity(self.crate, f"#{name}", properties={"@type": "File"})
            here = path.exists() and file_sha256(path) == file["sha256"]
            entity = self.set(
                self.crate.add_file(file["uri"]) if _on_the_web(file["uri"]) else self.crate.add(other),
                name=file["name"],
                description=f"{_role(name)}; `make data` fetches it to {name}",
                contentUrl=file["uri"],
                encodingFormat=MEDIA_TYPES.get(Path(name).suffix.lower(), UNKNOWN),
                sha256=file["sha256"],
                contentSize=str(path.stat().st_size) if here else None,
                sdDatePublished=seen,
                **card,
            )
            found.append(entity)
        return found

    def card(self) -> dict[str, Any]:
        """Describe licence and source of the data, from the data card."""
        found: dict[str, Any] = {}
        if text := self.origin.get("licence"):
            spdx = text.replace(" ", "-") if KNOWN_LICENCE.fullmatch(text) else None
            found["license"] = self.licence(spdx, text if _on_the_web(text) else "#licence-of-the-data", text)
        address = self.origin.get("address")
        uris = [file["uri"] for file in self.origin.get("files", [])]
        if address and address not in uris and _on_the_web(address):
            found["citation"] = self.entity(address, "CreativeWork", name=self.origin.get("title") or address)
        return found


def _on_the_web(address: str) -> bool:
    return urlparse(address).scheme in ("http", "https")


def _role(name: str) -> str:
    return "data as published" if "/raw/" in name else "data that the training reads"
