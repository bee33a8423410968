"""ro-crate-metadata.json: what the files of a bundle are to each other, as a Process Run Crate.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) with the profile https://w3id.org/ro/wfrun/process/0.5: the training is a
`CreateAction` of which the code is the instrument, data, settings and locks the object, and weights, metrics, trace and
record the result. Everything in it comes from the record and the project's files, so that it repeats byte for byte.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ..about import CITATION, Project, web_address
from ..config import PACKAGE
from ..repro import record as records
from ..repro.hashing import file_sha256
from ..repro.record import CONFIG, HISTORY, METRICS, PREDICTIONS, RECORD, WEIGHTS
from ..repro.source import PATCH
from ..repro.traces import TRACE
from .contents import Contents
from .entities import authors_of, data_licence, encoding, licence_of, some

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
COMPLETED = "http://schema.org/CompletedActionStatus"
MOST_LISTED = 100  # of the data files; of more, the record has the hashes
ROLES = {
    WEIGHTS: "the weights",
    METRICS: "the metrics, exact",
    TRACE: "fingerprints of the training's steps",
    RECORD: "the record: inputs, environment, cost and digests of the outputs",
    CONFIG: "the settings, complete",
    PREDICTIONS: "what the model says of every test sample",
    HISTORY: "the course of training",
    PATCH: "how the code differed from the commit",
}
OTHERS = {"README.md": "how to use the project", CITATION: "how to cite", "dvc.lock": "what was made of what, by hash"}
FOLDERS = {
    "configs/": "all settings that can be chosen",
    "tests/": "tests of the code",
    "notebooks/": "views of data and results",
    "reports/": "reports, metrics and verdicts in prose",
}


def describe(contents: Contents, project: Project, with_data: bool) -> bytes:
    """Write the crate's description.

    Args:
        contents: of the bundle.
        project: what the project says of itself.
        with_data: whether the data are in the bundle.
    """
    return f"{json.dumps(_Crate(contents, project).build(with_data), indent=2, ensure_ascii=False)}\n".encode()


class _Crate:
    """A crate in the making."""

    def __init__(self, contents: Contents, project: Project) -> None:
        from rocrate.rocrate import ROCrate  # here, because --help shall start at once

        self.contents, self.project, self.record = contents, project, contents.record
        self.crate = ROCrate(version="1.1")
        self.crate.metadata.extra_contexts.append(CONTEXT)

    def build(self, with_data: bool) -> dict[str, Any]:
        """Build the whole description."""
        record, project, run = self.record, self.project, self.contents.run
        ended, root = record["observed"]["ended"], self.crate.root_dataset
        authors = authors_of(self.crate, project)
        inside = "" if with_data else " Its data are named by address and sha256."
        said = project.description + ("" if project.description[-1:] in ".!?" else ".")
        self.set(
            root,
            name=f"{project.title}: {record['run']}",
            description=f"{said} A training run with all that it was made of: `make reproduce` trains it again and"
            f" compares every step, tensor and metric, bit for bit.{inside}".strip(),
            datePublished=ended[:10],
            license=licence_of(self.crate, project),
            author=authors,
            publisher=authors[0].get("affiliation"),
            conformsTo=self.entity(PROFILE, "CreativeWork", name="Process Run Crate", version="0.5"),
        )
        code = self.code(authors)
        data = self.data() if with_data else self.addresses(ended[:10])
        lock = [self.file(f"requirements/{name}", "the locked packages") for name in record["inputs"]["lock"]]
        outputs = (WEIGHTS, METRICS, TRACE, PREDICTIONS, HISTORY, RECORD)
        made = [self.file(f"{run}/{name}", ROLES[name]) for name in outputs]
        action = self.entity(
            "#training",
            "CreateAction",
            name=f"The training {record['run']}",
            description=records.command(record),
            startTime=_with_offset(record["observed"]["started"]),
            endTime=_with_offset(ended),
            actionStatus=COMPLETED,
            agent=authors[0],
            instrument=code,
            object=some([*data, self.file(f"{run}/{CONFIG}", ROLES[CONFIG]), *lock]),
            result=some([each for each in made if each]),
        )
        self.set(root, mentions=action)
        self.file(f"{run}/{PATCH}", ROLES[PATCH])
        for name in sorted(self.contents.files):
            if name.startswith(f"{run}/verdicts/"):
                self.file(name, "a verdict: what training the run again has found")
        for folder, role in FOLDERS.items():
            if any(name.startswith(folder) for name in self.contents.files):
                self.crate.add_dataset(dest_path=folder, properties={"name": role})
        for name, role in OTHERS.items():
            self.file(name, role)
        return dict(self.crate.metadata.generate())

    # --- pieces

    def set(self, entity: Any, **properties: Any) -> None:
        """Set the properties that have a value; of one author or file, no list is made."""
        for name, value in properties.items():
            if value not in (None, [], ""):
                entity[name] = some(value) if isinstance(value, list) else value

    def entity(self, identifier: str, kind: str, **properties: Any) -> Any:
        """Add something that is no file."""
        from rocrate.model.contextentity import ContextEntity

        entity = self.crate.add(ContextEntity(self.crate, identifier, properties={"@type": kind}))
        self.set(entity, **properties)
        return entity

    def file(self, name: str, role: str, **properties: Any) -> Any:
        """Add a file of the bundle; None where there is none of this name."""
        path = self.contents.files.get(name)
        if path is None:
            return None
        entity = self.crate.add_file(dest_path=name)
        size = str(path.stat().st_size)
        sha256 = self.contents.data.get(name) or file_sha256(path)  # that of the data has just been checked
        described = {"encodingFormat": encoding(name), "contentSize": size, "sha256": sha256}
        self.set(entity, name=Path(name).name, description=role, **described, **properties)
        return entity

    def code(self, authors: list[Any]) -> Any:
        """Add the code; its version is the commit, or the hash of the package's files where there is none."""
        source = self.record["source"]
        version = state = source.get("commit") or source.get("tree")
        if source.get("changed"):
            version = f"{version} with {self.contents.run}/{PATCH}"
        address = web_address(source.get("remote")) or web_address(self.project.address)
        folder = self.crate.add_dataset(dest_path="src/", properties={"name": "the code of the training"})
        return self.entity(
            f"{address}/tree/{state}" if address and "commit" in source else address or "#code",
            "SoftwareSourceCode",
            name=PACKAGE.name,
            description="the code of the training; the packages that it needs are locked in requirements/",
            version=version,
            url=address,
            codeRepository=address,
            author=authors,
            hasPart=folder,
        )

    def data(self) -> list[Any]:
        """Add the data that are in the bundle, with their licence; many of them as folders."""
        names = list(self.contents.data)
        about = self.about_data()
        if len(names) <= MOST_LISTED:
            return [self.file(name, _role(name), **about) for name in names]
        folders = sorted({"/".join(name.split("/")[:2]) + "/" for name in names})
        found = []
        for folder in folders:
            entity = self.crate.add_dataset(dest_path=folder)
            role = f"{_role(folder)}; {self.contents.run}/{RECORD} lists the sha256 of each file"
            self.set(entity, name=folder.split("/")[1], description=role, **about)
            found.append(entity)
        return found

    def addresses(self, seen: str) -> list[Any]:
        """Add the data by address and sha256."""
        found = []
        about = self.about_data()
        for each in self.record["inputs"].get("origin", {}).get("files", []):
            uri, name = each["uri"], f"data/raw/{each['name']}"
            web = urlparse(uri).scheme in ("http", "https")
            path = self.contents.root / name
            here = path.exists() and file_sha256(path) == each["sha256"]
            entity = self.crate.add_file(uri) if web else self.local(f"#{name}")
            self.set(
                entity,
                name=each["name"],
                description=f"{_role(name)}; `make data` fetches it to {name}",
                contentUrl=uri,
                encodingFormat=encoding(name),
                sha256=each["sha256"],
                contentSize=str(path.stat().st_size) if here else None,
                sdDatePublished=seen,
                **about,
            )
            found.append(entity)
        return found

    def local(self, identifier: str) -> Any:
        """Add a file that is not in the bundle, and has no address on the web (`pkg://`, for example)."""
        from rocrate.model.data_entity import DataEntity

        return self.crate.add(DataEntity(self.crate, identifier, properties={"@type": "File"}))

    def about_data(self) -> dict[str, Any]:
        """Describe licence and source of the data, from the data card."""
        origin = self.record["inputs"].get("origin", {})
        address, title = origin.get("address"), origin.get("title")
        files = {each["uri"] for each in origin.get("files", [])}
        about = {"license": data_licence(self.crate, origin.get("licence"))}
        if address and address not in files and urlparse(address).scheme in ("http", "https"):
            about["citation"] = self.entity(address, "CreativeWork", name=title or address)
        return about


def _role(name: str) -> str:
    return "data as published" if "/raw/" in name else "data that the training reads"


def _with_offset(time: str) -> str:
    return time.replace("Z", "+00:00")
