"""Unpacking an RO-Crate, and validating it without a network: the contexts that the validator asks for are here."""

from __future__ import annotations

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from .baking import TEMPLATE

VALIDATORS = TEMPLATE / ".venv-validators/bin"
CRATE = "https://w3id.org/ro/crate/1.1/context"
RUN = "https://w3id.org/ro/terms/workflow-run/context"
# Of the terms of that context, the one that a bundle uses
TERMS = {"@context": {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}}

# Runs in the validators' environment: answers each request for a context with what is given, and lets it be cached
FILL = """
import json, sys
import requests
from requests_cache import CachedSession
cache, answers = sys.argv[1], json.load(sys.stdin)
class Answers(requests.adapters.BaseAdapter):
    def send(self, request, **settings):
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        response.headers["Content-Type"] = "application/ld+json"
        response._content = json.dumps(answers[request.url]).encode()
        response.raw = requests.packages.urllib3.HTTPResponse(response._content, response.headers, 200)
        return response
    def close(self):
        pass
session = CachedSession(cache_name=cache, backend="sqlite", expire_after=-1)
session.mount("https://", Answers())
for address in answers:
    session.get(address).raise_for_status()
"""


def fill_cache(folder: Path, environment: Path) -> Path:
    """Fill a cache for the validator.

    RO-Crate's context is the one that the library `rocrate` ships: that of a later version, which has all the terms of
    1.1 that a bundle uses, and some more.

    Args:
        folder: for the cache.
        environment: of a project, in which `rocrate` is installed.
    """
    if not VALIDATORS.exists():
        pytest.skip("no validators: make .venv-validators/.installed")
    (shipped,) = environment.glob("lib/python*/site-packages/rocrate/data/ro-crate.jsonld")
    answers = {CRATE: json.loads(shipped.read_text(encoding="utf-8")), RUN: TERMS}
    cache = folder / "contexts"
    subprocess.run(
        [VALIDATORS / "python", "-c", FILL, cache],
        input=json.dumps(answers),
        text=True,
        check=True,
        capture_output=True,
    )
    return cache


def complaints(crate: Path, cache: Path) -> list[str]:
    """List what the validator finds wrong with a Process Run Crate: REQUIRED and RECOMMENDED.

    Args:
        crate: its folder.
        cache: from `fill_cache`.
    """
    report = cache.parent / "report.json"
    report.unlink(missing_ok=True)
    words = ["--no-interactive", "validate", "--offline", "--requirement-severity", "recommended"]
    words += ["--profile-identifier", "process-run-crate", "--output-format", "json"]
    places = ["--cache-path", str(cache), "--output-file", str(report), str(crate)]
    done = subprocess.run([VALIDATORS / "rocrate-validator", *words, *places], capture_output=True, text=True)
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text())
    return [f"{each['severity']}: {each['message']}" for each in found["issues"]]


def unzip(path: Path, folder: Path) -> Path:
    """Unpack a bundle as `unzip` does, permissions included; return its one folder."""
    with zipfile.ZipFile(path) as zipped:
        for entry in zipped.infolist():
            Path(zipped.extract(entry, folder)).chmod((entry.external_attr >> 16) & 0o777)
    (top,) = folder.iterdir()
    return top
