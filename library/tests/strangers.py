"""Runs as a stranger could make them, without a training; what all outputs say of them; and what must hold of that."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import struct
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unicodedata import category
from unittest import mock

import jinja2
import scipy.stats  # noqa: F401  # which takes seconds, and no try of its own
import yaml
from markdown_it import MarkdownIt

from .project import module

records, verdicts = module("samebits.engine.record"), module("samebits.verify.verdict_files")
inputs_id, CONTRACT = module("samebits.engine.inputs").inputs_id, module("samebits.engine.inputs").CONTRACT
Change = Callable[[dict[str, Any]], object]
SHA256 = "0123456789abcdef" * 4


def make_record(**config: Any) -> dict[str, Any]:
    """Make the record of a finished run of some classifier."""
    network = {"_target_": "torch.nn.Linear", "in_features": 4}
    settings = {
        "seed": 0,
        "data": {"name": "digits", "split": {"val": 0.1}},
        "model": {"network": network, "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.1}},
        "trainer": {"max_epochs": 2},
        "determinism": {"enabled": True, "portable": True, "threads": 1, "shards": 1, "env": {}},
    }
    empty = ("patched", "loaded", "shadows", "startup", "bytecode", "preloaded", "objects", "stdlib", "asked", "listed")
    environment = {
        **{key: {} for key in empty},
        "python": "3.11.7",
        "system": {"os": "Linux"},
        "processor": {"model": "some processor"},
        "gpu": None,
        "libraries": {},
        "threads": {},
        "flags": {},
        "variables": {},
        "packages": {"torch": "2.11.0"},
    }
    observed = {
        "status": "finished",
        "started": "2026-01-31T12:00:00Z",
        "ended": "2026-01-31T12:30:00Z",
        "starts": 1,
        "wall_seconds": 2.0,
        "cpu_seconds": 2.0,
        "joules": None,
        "peak_memory_bytes": 10**8,
        "peak_gpu_memory_bytes": 10**8,
        "processes": 1,
        "steps": 20,
        "parameters": 5,
        "touched": {"addresses": {}, "programs": []},
        "clock": [],
    }
    origin = {"title": "Digits", "licence": "MIT", "address": "https://example.org/digits", "card": "data/README.md"}
    origin["files"] = [{"name": "digits.csv", "uri": "https://example.org/digits.csv", "sha256": SHA256}]  # type: ignore[assignment]
    inputs = {
        "config": settings | config,
        "code": {"dummy/train.py": SHA256},
        "lock": {"main.txt": SHA256},
        "data": {"train.npy": SHA256},
        "contract": CONTRACT,
        "outside": {},
        "origin": origin,
    }
    source = {"tree": SHA256, "commit": SHA256[:40], "changed": [], "remote": "https://example.org/x", "overrides": []}
    outputs = {"weights": SHA256, "tensors": {"weight": SHA256}, "metrics": {"test/accuracy": 0.5}, "trace": None}
    return {
        "run": "",
        "inputs": inputs,
        "source": source,
        "environment": environment,
        "observed": observed,
        "outputs": outputs,
    }


def write_run(models: Path, change: Change = lambda record: None, name: str = "cnn-seed=0", **config: Any) -> Path:
    """Write a finished run whose parts agree with each other, after a change of its record; return its folder."""
    record = make_record(**config)
    change(record)
    record["run"] = record["run"] or f"{name}-{inputs_id(record['inputs'])}"
    folder = models / (f"{name}-{inputs_id(record['inputs'])}" if "/" in record["run"] else record["run"])
    folder.mkdir(parents=True)
    written = record["inputs"]["config"] | {"paths": {"processed": "data/processed"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(written))
    records.write_record(folder, record)
    records.write_metrics(folder / "metrics.json", record["outputs"]["metrics"])
    return folder


def write_verdict(run: Path, change: Change = lambda verdict: None, name: str = "1") -> None:
    """Write a verdict on it, sealed as anybody can, after a change."""
    record = json.loads((run / "record.json").read_text())
    first = {"step": 3, "column": "loss", "parameters": ["weight"], "operator": "aten.mm", "since": 2, "evaluation": ""}
    verdict = {
        "verdict": "ENVIRONMENT",
        "meaning": "two trainings here agree with each other, and not with the record",
        "run": record["run"],
        "record": record["sha256"],
        "when": "2026-02-01T12:00:00Z",
        "by": "Ann",
        "machine": {"processor": "another processor"},
        "code": "here",
        "fresh_environment": False,
        "causes": ["a cause"],
        "inputs": [],
        "environment": [["packages.torch", "2.11.0", "2.12.0"]],
        "comparison": {"divergence": first, "metrics": [["test/accuracy", "0.5", "0.4"]], "distance": None},
    }
    change(verdict)
    verdicts.write_verdict(run, name, json.dumps(verdicts.seal(verdict)))


def weights_file(header: bytes, length: int | None = None, data: bytes = b"") -> bytes:
    """Make a file of safetensors with a header of one's own."""
    return struct.pack("<Q", len(header) if length is None else length) + header + data


# --- what the library writes and prints of it


class _Kept(jinja2.BytecodeCache):
    """Templates are compiled once for all tries."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Any) -> None:
        if bucket.key in self.known:
            bucket.bytecode_from_string(self.known[bucket.key])

    def dump_bytecode(self, bucket: Any) -> None:
        self.known[bucket.key] = bucket.bytecode_to_string()


COMPILED = partial(jinja2.Environment, bytecode_cache=_Kept())


@contextlib.contextmanager
def without_figures() -> Iterator[None]:
    """Leave out the figures, which take seconds, and whose texts are paths; compile each template once."""
    figures = module("samebits.report.figures")
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch("jinja2.Environment", COMPILED))
        for name in ("seeds", "curves", "differences", "draw_costs"):
            stack.enter_context(mock.patch.object(figures, name, lambda *given: None))
        stack.enter_context(mock.patch.object(figures, "draw_panels", lambda panel: []))
        yield


def project_of(root: Path) -> Path:
    """Make a project's folder around the runs in its models/."""
    (root / "reports").mkdir(parents=True, exist_ok=True)
    (root / "CITATION.cff").write_text("title: A title\nlicense: MIT\nauthors: [{name: Ann}]\n")
    (root / "pyproject.toml").write_text('[project]\nname = "digits"\nlicense = "MIT"\n')
    return root


def report(root: Path) -> dict[str, str]:
    """Write the report and the reproduction of a project's runs; give each file's text."""
    reports = module("samebits.report.report")
    settings = {"metric": "test/accuracy", "metrics": ["test/accuracy"], "curves": [], "exclude": [], "baseline": None}
    every = {**settings, "panels": {}, "per_fold": False, "other_data": True}
    with without_figures(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from omegaconf import OmegaConf

        reports.report(root, OmegaConf.create(every))
        module("samebits.verify.verdict").write_reproducibility_report(root)
    return {path.name: path.read_bytes().decode() for path in (root / "reports").glob("*.*")}


def say(*words: str) -> tuple[int, str]:
    """Run a verb here; return its exit status, and all that it printed."""
    said, status = io.StringIO(), 0
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            module("samebits.cli").main(list(words))
        except SystemExit as end:
            status = int(end.code or 0)
    return status, said.getvalue()


# --- what must hold of it


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]


TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "h1",
        "h2",
        "h3",
        "p",
        "a",
        "table",
        "thead",
        "tbody",
    ),
    *("tr", "th", "td", "strong", "small", "div", "figure", "figcaption", "img", "code", "ul", "li", "span", "pre"),
}
ATTRIBUTES = {"lang", "charset", "name", "content", "http-equiv", "class", "href", "src", "alt", "data-label"}


def check_printable(text: str) -> None:
    """Assert that no character steers a terminal, or hides."""
    found = {each for each in text if category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - set("\n\u200c\u200d")
    assert not found, sorted(map(ascii, found))


def check_html(text: str) -> None:
    """Assert that a page has no tags but its own, and links to the web, to files beside it, or to data of images."""
    check_printable(text.replace("\t", ""))  # a blank, there
    page = _Page()
    page.feed(text)
    assert page.tags <= TAGS and page.attributes <= ATTRIBUTES, (page.tags - TAGS, page.attributes - ATTRIBUTES)
    for address in page.addresses:
        assert re.match(r"https?://|data:image/svg\+xml;base64,|[\w.-]+$|\.\./models/", address), address
    assert text.index("Content-Security-Policy") < text.index("<style")


def check_markdown(text: str) -> None:
    """Assert that Markdown holds no HTML, no image, and links to the web alone, however lenient its reader is."""
    check_printable(text)
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    reader.validateLink = lambda url: True  # type: ignore[method-assign]
    inner = [child for block in reader.parse(text) for child in [block, *(block.children or [])]]
    assert not [each.content for each in inner if each.type in ("html_block", "html_inline", "image")]
    links = [str(each.attrs.get("href")) for each in inner if each.type == "link_open"]
    assert all(re.match(r"https?://", link) for link in links), links


def check_csv(text: str) -> None:
    """Assert that no cell is a formula."""
    check_printable(text)
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    formulas = [cell for cell in cells if re.match(r"[\s\u200c\u200d]*[-=+@＝＋－＠]", cell)]
    assert all(re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", cell) for cell in formulas), formulas


def check_latex(text: str) -> None:
    """Assert that LaTeX has no commands but those of the table."""
    check_printable(text)
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    commands = set(re.findall(r"\\([A-Za-z@]+|.)", re.sub(r"\\\\(?=$)", "", "\n".join(lines), flags=re.M)))
    known = {"begin", "end", "toprule", "midrule", "bottomrule", "pm", "textbackslash", "textasciitilde"}
    assert commands <= known | {"textasciicircum", *"&%$#_{}"}, commands
    bare = re.sub(r"\\.|\$-?[\d.]+ \\pm [\d.]+\$", "", "\n".join(lines))
    assert not re.search(r"[%#^~$]", bare), bare


CHECKS = {".html": check_html, ".md": check_markdown, ".csv": check_csv, ".tex": check_latex}


def check_files(files: dict[str, str]) -> None:
    """Assert it of each file by its kind."""
    for name, text in files.items():
        try:
            CHECKS[Path(name).suffix](text)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
