"""Attacks by the files of strangers: texts in records and verdicts, and files that are not what their names say.

`CASES` lists them for the table of all attacks; tests/test_strangers.py tries them, and others that Hypothesis makes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .attack import Attack
from .strangers import (
    check_files,
    check_printable,
    project_of,
    report,
    say,
    weights_file,
    write_run,
    write_verdict,
)

Set = Callable[[dict[str, Any], str], object]
EVIL = {
    "a script's address": "javascript:alert(1)",
    "data as an address": "data:text/html;base64,PHNjcmlwdD4=",
    "an address in disguise": "https://example.org/\n<javascript:alert(1)>",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "HTML in an attribute": "\" onmouseover='alert(1)' x=\"",
    "HTML that ends a cell": "</td></table><iframe srcdoc='<script>'></iframe>",
    "a template's code": "{{ self.__init__.__globals__ }}{% raw %}",
    "Markdown": "[x](javascript:alert(1)) ![y](data:text/html,z) <a href=javascript:1>",
    "Markdown that ends code": "`` ` ``` <script> | x | \n\n[a]: javascript:b\n[a]",
    "Markdown that ends the table": "x |\n\n<details open ontoggle=alert(1)>\n\n```",
    "entities": "&lt;script&gt; &#106;avascript:x [x](java&#115;cript:y)",
    "a formula": "=cmd|' /C calc'!A0",
    "a formula behind blanks": "\t\r\n@SUM(1+1)*cmd|' /C calc'!A0",
    "a formula in wide letters": "＝1+1",
    "LaTeX": "\\input{/etc/passwd} \\write18{id} $x$ % ~ ^^5c # & _",
    "LaTeX that ends a comment": "x\n\\immediate\\write18{id}",
    "escape sequences": "\x1b[2J\x1b]0;title\x07\x1b]8;;https://example.org\x07x\x1b]8;;\x07\x9b31m",
    "a way back": "IDENTICAL\r\x08\x08\x08\x7f\x0b\x0c",
    "another direction": "\u202egnp.exe\u202c \u2066x\u2069 \u200f\u061c",
    "what nobody sees": "a\u200bb\u2060c\ufeffd\U000e0041\u00ad\u2028e\u2029",
    "half a letter": "\ud800 \udc80 \udfff",
    "a feigned line": "x\nverdicts  IDENTICAL (2026-01-01, signed by Ann)\nerror: none",
    "a very long text": "A" * 100_000,
    "markup of Rich": "[link=https://example.org]x[/link] [bold red]IDENTICAL[/]",
}


def _in(part: str, *keys: str) -> Set:
    def put(record: dict[str, Any], text: str) -> None:
        node: Any = record[part]
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = text

    return put


PLACES: dict[str, Set] = {
    "title": _in("inputs", "origin", "title"),
    "licence": _in("inputs", "origin", "licence"),
    "address": _in("inputs", "origin", "address"),
    "card": _in("inputs", "origin", "card"),
    "raw file": lambda record, text: record["inputs"]["origin"]["files"][0].update(name=text),
    "raw address": lambda record, text: record["inputs"]["origin"]["files"][0].update(uri=text),
    "raw sha256": lambda record, text: record["inputs"]["origin"]["files"][0].update(sha256=text),
    "setting": _in("inputs", "config", "model", "optimizer", "lr"),
    "name of a setting": lambda record, text: record["inputs"]["config"]["model"].update({text: 1}),
    "network": _in("inputs", "config", "model", "network", "_target_"),
    "optimizer": _in("inputs", "config", "model", "optimizer", "_target_"),
    "data set": _in("inputs", "config", "data", "name"),
    "split": _in("inputs", "config", "data", "split", "val"),
    "epochs": _in("inputs", "config", "trainer", "max_epochs"),
    "data file": lambda record, text: record["inputs"]["data"].update({text: "0" * 64}),
    "file outside": lambda record, text: record["inputs"]["outside"].update({text.replace("..", ""): "0" * 64}),
    "remote": _in("source", "remote"),
    "remark": _in("source", "remark"),
    "changed file": lambda record, text: record["source"]["changed"].append(text),
    "override": lambda record, text: record["source"]["overrides"].append(text),
    "tag": lambda record, text: record["source"].update(tags=[text]),
    "processor": _in("environment", "processor", "model"),
    "GPU": lambda record, text: record["environment"].update(gpu={"model": text}),
    "system": _in("environment", "system", "os"),
    "Python": _in("environment", "python"),
    "PyTorch": _in("environment", "packages", "torch"),
    "package": lambda record, text: record["environment"]["packages"].update({text: "1"}),
    "shadow": lambda record, text: record["environment"]["shadows"].update({"x": text}),
    "variable": lambda record, text: record["environment"]["asked"].update({text: "ab"}),
    "folder": lambda record, text: record["environment"]["listed"].update({text: "0 0"}),
    "program": lambda record, text: record["observed"]["touched"]["programs"].append(text),
    "host": lambda record, text: record["observed"]["touched"]["addresses"].update({text: text}),
    "clock": lambda record, text: record["observed"]["clock"].append(text),
    "metric": lambda record, text: record["outputs"]["metrics"].update({text: -1.0}),
    "tensor": lambda record, text: record["outputs"]["tensors"].update({text: "0" * 64}),
}
SETTINGS = ("setting", "name of a setting", "network", "optimizer", "data set", "split", "epochs")
OF_SETTINGS = [PLACES[name] for name in SETTINGS]
OF_VERDICTS: dict[str, Set] = {
    "by": lambda verdict, text: verdict.update(by=text),
    "meaning": lambda verdict, text: verdict.update(meaning=text),
    "machine": lambda verdict, text: verdict["machine"].update(processor=text),
    "cause": lambda verdict, text: verdict.update(verdict="TAMPERED", causes=[text]),
    "input": lambda verdict, text: verdict.update(inputs=[[text, text, text]]),
    "environment": lambda verdict, text: verdict.update(environment=[[text, text, text]]),
    "metric": lambda verdict, text: verdict["comparison"].update(metrics=[[text, text, text]]),
    "parameter": lambda verdict, text: verdict["comparison"]["divergence"].update(parameters=[text]),
    "operator": lambda verdict, text: verdict["comparison"]["divergence"].update(operator=text),
    "column": lambda verdict, text: verdict["comparison"]["divergence"].update(column=text),
    "evaluation": lambda verdict, text: verdict["comparison"]["divergence"].update(evaluation=text),
}


def try_text(put: Set | None, of_verdict: Set | None, text: str, folder: Path) -> None:
    """Write a project in which a text stands in a place of one run; check all that is written and printed of it."""
    root = project_of(folder / "project")
    if put in OF_SETTINGS:
        text = text.encode(errors="ignore").decode()  # YAML has no halves of letters: such settings cannot be read
    run = write_run(root / "models", lambda record: put and put(record, text), name="a-seed=0")
    other = write_run(root / "models", name="b-seed=1", seed=1)
    write_verdict(run, lambda verdict: of_verdict and of_verdict(verdict, text))
    if of_verdict is not OF_VERDICTS["cause"]:  # a run that is TAMPERED has no report
        check_files(report(root))
    for words in (("show", str(run)), ("compare", str(run), str(other))):
        status, said = say(*words)
        check_printable(said)
        assert status in (0, 1) and "Traceback" not in said, said[-2000:]
        assert not re.search(r"(?m)^(verdicts  IDENTICAL|error: none)", said), said


# --- files that are not what their names say


def refused(said: tuple[int, str], *wanted: str) -> None:
    """Assert that a command has ended by one sentence, and what it names."""
    status, text = said
    assert status == 2 and text.startswith("error: ") and text.count("\n") == 1, said
    check_printable(text)
    assert all(each in text for each in wanted), text


def tampered_or_refused(run: Path, *wanted: str) -> None:
    """Assert that `show` warns of a run or refuses it, in sentences."""
    status, text = say("show", str(run))
    assert status in (0, 2) and ("WARNING" in text or text.startswith("error: ")) and "Traceback" not in text, text
    check_printable(text)
    assert all(each in text for each in wanted), text


def _secret(folder: Path) -> Path:
    path = folder / "private"
    path.write_text("SECRET\n")
    return path


def link(name: str, folder: Path) -> None:
    """Put a link to a private file in the place of a file of a run."""
    run = write_run(folder / "models")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(_secret(folder))
    for words in (("show", str(run)), ("compare", str(run), str(run)), ("reproduce", str(run), "--no-file")):
        refused(say(*words), f"{name} is a link out of the project")


def link_to_weights(folder: Path) -> None:
    run = write_run(folder / "models")
    (run / "model.safetensors").symlink_to(_secret(folder))
    tampered_or_refused(run, "model.safetensors is damaged")


def link_to_verdict(folder: Path) -> None:
    run = write_run(folder / "models")
    write_verdict(run)
    (run / "verdicts/1.json").rename(folder / "1.json")
    (run / "verdicts/1.json").symlink_to(folder / "1.json")
    status, text = say("show", str(run))
    assert status == 0 and "verdicts/1.json cannot be read" in text, text


def huge(name: str, folder: Path) -> None:
    """Make a file of 2 GB that takes no room."""
    run = write_run(folder / "models")
    os.truncate(run / name, 2 * 10**9)
    tampered_or_refused(run, name)


def content(name: str, text: bytes, wanted: str, folder: Path) -> None:
    """Put something else into a file."""
    run = write_run(folder / "models")
    write_verdict(run)
    (run / name).write_bytes(text)
    tampered_or_refused(run, wanted)


def form(change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    """Change a record to another form; it is refused."""
    run = write_run(folder / "models", change)
    for words in (("show", str(run)), ("compare", str(run), str(run)), ("reproduce", str(run), "--no-file")):
        refused(say(*words), "is damaged")


def plain_settings(settings: dict[str, Any], folder: Path) -> None:
    """Have groups of settings be plain values, as they may be in an adopted project; they are shown as they are."""
    root = project_of(folder / "project")
    run = write_run(root / "models", lambda record: record["inputs"]["config"].update(settings))
    status, text = say("show", str(run))
    assert status == 0, text
    check_files(report(root))


def verdict_form(change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    """Change a verdict to another form; it is passed over, and named."""
    root = project_of(folder / "project")
    run = write_run(root / "models")
    write_verdict(run, change)
    status, text = say("show", str(run))
    assert status == 0 and "was edited after it was written" in text and "none yet" in text, text
    check_files(report(root))


def no_card_of_others(folder: Path) -> None:
    """Name a file outside of the project as the data's card."""
    root = project_of(folder / "project")
    (folder / "card.md").write_text("| Title | SECRET |\n\n## Known limits\n\nSECRET\n")
    write_run(root / "models", lambda record: record["inputs"]["origin"].update(card="../card.md"))
    assert not [name for name, text in report(root).items() if "SECRET" in text]


def trace(rows: list[Any], folder: Path) -> None:
    """Write a trace of odd rows whose chain of hashes and record fit."""
    import hashlib

    sha256, lines = hashlib.sha256(), []
    for row in rows:
        row = row | {"follows": sha256.hexdigest()[:16]} if isinstance(row, dict) else row
        lines.append(f"{json.dumps(row)}\n")
        sha256.update(lines[-1].encode())
    whole = {"sha256": sha256.hexdigest(), "rows": len(rows)}
    run = write_run(folder / "models", lambda record: record["outputs"].update(trace=whole))
    (run / "trace.jsonl").write_text("".join(lines))
    tampered_or_refused(run, "WARNING")


DEEP = b"[" * 100_000 + b"]" * 100_000
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(8)
)
FORMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a run called as a path": lambda record: record.update(run="../../../tmp/x"),
    "a run of two lines": lambda record: record.update(run="cnn-seed=0-00000000\nx/"),
    "a run that is hidden": lambda record: record.update(run="/.git"),
    "a commit that is an option": lambda record: record["source"].update(commit="--output=/tmp/x"),
    "a snapshot that is an option": lambda record: record["source"].update(snapshot="--output=/tmp/x"),
    "a commit of two lines": lambda record: record["source"].update(commit="0" * 40 + "\n"),
    "code outside of the project": lambda record: record["inputs"]["code"].update({"../../x.py": "0" * 64}),
    "code at the root": lambda record: record["inputs"]["code"].update({"/dev/zero": "0" * 64}),
    "locks outside of the project": lambda record: record["inputs"]["lock"].update({"a/../../x": "0" * 64}),
    "what it loaded, by a way out": lambda record: record["inputs"]["outside"].update({"x/../../../y": "0" * 64}),
    "no seed": lambda record: record["inputs"]["config"].pop("seed"),
    "a seed that is a text": lambda record: record["inputs"]["config"].update(seed="0"),
    "no determinism": lambda record: record["inputs"]["config"].pop("determinism"),
    "overrides that are numbers": lambda record: record["source"].update(overrides=[1, None]),
    "a time of a month 99": lambda record: record["observed"].update(ended="2026-99-01T00:00:00Z"),
    "a time of text": lambda record: record["observed"].update(ended="<b>"),
    "seconds without an end": lambda record: record["observed"].update(wall_seconds=10**400),
    "metrics that are infinite": lambda record: record["outputs"]["metrics"].update(x=float("inf")),
    "metrics too large for a float": lambda record: record["outputs"]["metrics"].update(x=10**400),
    "a processor that is a list": lambda record: record["environment"].update(processor=[1]),
    "packages that are numbers": lambda record: record["environment"]["packages"].update(torch=2),
    "files that are texts": lambda record: record["inputs"]["origin"].update(files=["x"]),
    "files with an address of a list": lambda record: record["inputs"]["origin"]["files"][0].update(uri=["x"]),
    "tags that are dicts": lambda record: record["source"].update(tags=[{}]),
    "a part that nobody knows": lambda record: record.update(more=1),
}
VERDICT_FORMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another verdict": lambda verdict: verdict.update(verdict="<b>IDENTICAL</b>"),
    "a time that is a number": lambda verdict: verdict.update(when=5),
    "a time of two lines": lambda verdict: verdict.update(when="2026-02-01T12:00:00Z\n"),
    "a name that is a list": lambda verdict: verdict.update(by=["Ann"]),
    "a machine that is a text": lambda verdict: verdict.update(machine="x"),
    "causes that are dicts": lambda verdict: verdict.update(causes=[{}]),
    "inputs of two": lambda verdict: verdict.update(inputs=[["a", "b"]]),
    "a comparison that is a text": lambda verdict: verdict.update(comparison="x"),
    "a divergence of other fields": lambda verdict: verdict["comparison"].update(
        divergence={"step": 1, "__class__": 2}
    ),
    "a distance of texts": lambda verdict: verdict["comparison"].update(distance={"tensors": "x"}),
    "metrics that are numbers": lambda verdict: verdict["comparison"].update(metrics=[1]),
    "no machine": lambda verdict: verdict.pop("machine"),
}
CONTENTS: dict[str, tuple[str, bytes, str]] = {
    "a record that is deep": ("record.json", b'{"format": 1, "run": ' + DEEP + b"}", "nested too deeply"),
    "a record that is a little deep": ("record.json", b'{"a": ' + b"[" * 90 + b"]" * 90 + b"}", "nested too deeply"),
    "a record that is a list": ("record.json", b"[]", "no JSON object"),
    "a record of nothing": ("record.json", b"", "is damaged"),
    "a record with a number of a million digits": ("record.json", b'{"format": ' + b"9" * 10**6 + b"}", "is damaged"),
    "a record that is no UTF-8": ("record.json", b'{"format": "\xff\xfe"}', "is damaged"),
    "metrics that are deep": ("metrics.json", DEEP, "metrics.json cannot be read"),
    "metrics that are a text": ("metrics.json", b'"x"', "WARNING"),
    "a verdict that is deep": ("verdicts/1.json", DEEP, "verdicts/1.json cannot be read"),
    "a verdict that is a list": ("verdicts/1.json", b"[]", "verdicts/1.json cannot be read"),
    "settings that grow without an end": ("config.yaml", BOMB, "config.yaml cannot be read"),
    "settings that are deep": ("config.yaml", DEEP, "config.yaml cannot be read"),
    "settings that make an object": ("config.yaml", b"a: !!python/object/apply:os.system [id]", "config.yaml"),
    "settings that are a list": ("config.yaml", b"- 1", "config.yaml cannot be read"),
    "weights of nothing": ("model.safetensors", b"", "model.safetensors is damaged"),
    "weights with a header of 2^63 bytes": ("model.safetensors", weights_file(b"{}", 2**63), "is damaged"),
    "weights with a header past the end": ("model.safetensors", weights_file(b"{}", 10**6), "is damaged"),
    "weights with a deep header": ("model.safetensors", weights_file(DEEP), "is damaged"),
    "weights with a header that is a list": ("model.safetensors", weights_file(b"[]"), "is damaged"),
    "weights that overlap": (
        "model.safetensors",
        weights_file(
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
            data=b"0000",
        ),
        "is damaged",
    ),
    "weights past the end": (
        "model.safetensors",
        weights_file(b'{"a":{"dtype":"F32","shape":[9223372036854775807,9],"data_offsets":[0,4]}}', data=b"0000"),
        "is damaged",
    ),
    "weights of another run": (
        "model.safetensors",
        weights_file(b'{"__metadata__":{"run":"\\u001b[2J\\u202ex"}}'),
        "WARNING",
    ),
    "weights whose tensors steer": (
        "model.safetensors",
        weights_file(b'{"\\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', data=b"0000"),
        "WARNING",
    ),
}
TRACES: dict[str, list[Any]] = {
    "numbers": [1, 2],
    "lists": [[1]],
    "steps that are texts": [{"step": "x"}],
    "no step": [{"loss": "a"}],
    "an evaluation of texts": [{"step": 1, "evaluation": "test", "metrics": "x", "weights": 1, "inputs": "x"}],
    "an evaluation of nothing": [{"step": 1, "evaluation": "test"}],
}

PLAIN: dict[str, dict[str, Any]] = {
    "a list, a text and a number": {"data": [1], "model": "<b>x</b>", "trainer": 3},
    "nothing": {"data": None, "model": None, "trainer": None},
    "within groups": {"data": {"module": [1], "split": "x"}, "model": {"network": "x", "optimizer": [1]}},
}
CASES: list[Attack] = [
    *(
        Attack("a text in a record", f"{what} as {place}", partial(try_text, put, None, text))
        for place, put in PLACES.items()
        for what, text in EVIL.items()
    ),
    *(
        Attack("a text in a verdict", f"{what} as {place}", partial(try_text, None, put, text))
        for place, put in OF_VERDICTS.items()
        for what, text in EVIL.items()
    ),
    *(Attack("a record of another form", name, partial(form, change)) for name, change in FORMS.items()),
    *(Attack("settings that are plain values", name, partial(plain_settings, each)) for name, each in PLAIN.items()),
    *(
        Attack("a verdict of another form", name, partial(verdict_form, change))
        for name, change in VERDICT_FORMS.items()
    ),
    *(
        Attack("a link in a run", name, partial(link, name))
        for name in ("record.json", "config.yaml", "metrics.json", "trace.jsonl", "history.csv", "code.patch")
    ),
    Attack("a link in a run", "model.safetensors", link_to_weights),
    Attack("a link in a run", "verdicts/1.json", link_to_verdict),
    Attack("a link in a run", "a card elsewhere", no_card_of_others),
    *(Attack("a file of 2 GB", name, partial(huge, name)) for name in ("record.json", "metrics.json")),
    *(Attack("a file of another content", name, partial(content, *each)) for name, each in CONTENTS.items()),
    *(Attack("a file of another content", f"a trace of {name}", partial(trace, rows)) for name, rows in TRACES.items()),
]
