"""Faults in what a run has left: weights, metrics, trace, verdicts; and how the damaged is told of."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .cases_inputs import FORGED, SAME, records
from .forging import reseal, rewrite
from .planted import (
    DATA,
    ENVIRONMENT,
    IDENTICAL,
    PASSED_OVER,
    REFUSED,
    SAID,
    TAMPERED,
    Case,
    Place,
    Plant,
    both,
    edit,
    write,
)
from .project import module

files = module("samebits.verify.verdict_files")


def rewrite_trace(change: Callable[[list[dict[str, Any]]], object]) -> Plant:
    return lambda place: rewrite(place.run, change)


def change_lines(change: Callable[[list[str]], object]) -> Plant:
    """Make a plant that changes the lines of the trace, and nothing besides."""

    def plant(place: Place) -> None:
        path = place.run / "trace.jsonl"
        lines = path.read_text().splitlines(keepends=True)
        change(lines)
        path.write_text("".join(lines))

    return plant


def swap_tensors(place: Place) -> None:
    """Exchange two bytes of a bias in the file."""
    path = place.run / "model.safetensors"
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    begin = 8 + length + json.loads(content[8 : 8 + length])["layers.3.bias"]["data_offsets"][0]
    content[begin], content[begin + 1] = content[begin + 1], content[begin]
    path.write_bytes(bytes(content))


def forge_f1(place: Place) -> None:
    """Forge a validation metric in the record, in metrics.json and in all rows of the trace."""
    reseal(place.run, lambda record: record["outputs"]["metrics"].update({"val/f1": 0.75}))
    rewrite(
        place.run,
        lambda rows: [row["metrics"].update({"val/f1": "0.75"}) for row in rows if "val/f1" in row.get("metrics", {})],
    )


def forge_predictions(place: Place) -> None:
    """Have a test sample labelled rightly, and the record agree with it."""
    path = place.run / "predictions.csv"
    lines = path.read_text().splitlines()
    names = lines[0].split(",")
    label, predicted = names.index("label"), names.index("predicted")
    for number, line in enumerate(lines[1:], 1):
        words = line.split(",")
        if words[label] != words[predicted]:
            words[predicted] = words[label]
            lines[number] = ",".join(words)
            break
    path.write_text("\n".join(lines) + "\n")
    digest = module("samebits.engine.files").file_sha256(path)
    reseal(place.run, lambda record: record["outputs"].update(predictions=digest))


def forge_curve(place: Place) -> None:
    """Have the loss be smaller in the curve that the report draws, and the record agree with it."""
    path = place.run / "history.csv"
    path.write_text(path.read_text().replace("2.", "1.", 1))
    digest = module("samebits.engine.files").file_sha256(path)
    reseal(place.run, lambda record: record["observed"].update(history=digest))


def forge_gradient(place: Place) -> None:
    rewrite(place.run, lambda rows: rows[1].update(grad=dict.fromkeys(rows[1]["grad"], "0" * 16)))


def json_layout(name: str) -> Plant:
    """Make a plant that writes a JSON file with other spaces, and keys in another order."""

    def plant(place: Place) -> None:
        path = place.run / name
        path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items())), indent=7))

    return plant


def record_with(change: Callable[[dict[str, Any]], object]) -> Plant:
    """Make a plant that changes the record, whatever follows, and seals it."""

    def plant(place: Place) -> None:
        record = json.loads((place.run / "record.json").read_text())
        change(record)
        record.pop("sha256", None)
        digest = module("samebits.engine.files").json_sha256(record)
        (place.run / "record.json").write_text(json.dumps(record | {"sha256": digest}))

    return plant


def gone(*names: str) -> Plant:
    return lambda place: [(place.run / name).unlink() for name in names]


def folder(name: str) -> Plant:
    return both(gone(name), lambda place: (place.run / name).mkdir())


def config_layout(place: Place) -> None:
    path = place.run / "config.yaml"
    import yaml

    content = yaml.safe_load(path.read_text())
    path.write_text("# kept by hand\n" + yaml.safe_dump(dict(reversed(content.items())), sort_keys=False))


# --- verdicts beside a run


def verdict(kind: str, name: str = "1", of: str = "", **more: Any) -> Plant:
    """Make a plant that puts a sealed verdict beside the run."""

    def plant(place: Place) -> None:
        record = records.read_record(place.sibling(of) if of else place.run)
        made = module("samebits.verify.verdict").Verdict(files.Kind[kind], record["run"], causes=["a cause"])
        made.details = {"record": record["sha256"], "by": None, "when": "2026-11-27T08:00:00Z", "code": "here"}
        made.details |= {"machine": {"processor": "a"}, "fresh_environment": False, **more}
        files.write_verdict(place.run, name, made.as_json())

    return plant


def spoilt_and_judged(mend: bool) -> Plant:
    """Make a plant that judges a run of which a metric was edited; with `mend`, it is restored and judged again."""

    def plant(place: Place) -> None:
        path = place.run / "metrics.json"
        before = path.read_text()
        path.write_text(before.replace('"val/accuracy": 0.', '"val/accuracy": 0.9'))
        place.call("-m", "samebits", "reproduce", str(place.run), status=1)
        path.write_text(before)
        if mend:
            place.call("-m", "samebits", "reproduce", str(place.run), status=0)

    return plant


def edited_verdict(place: Place) -> None:
    verdict("ENVIRONMENT")(place)
    path = place.run / "verdicts/1.json"
    path.write_text(path.read_text().replace('"ENVIRONMENT"', '"IDENTICAL"'))


def ask(words: str) -> Plant:
    def plant(place: Place) -> None:
        place.asked = words

    return plant


def without_runs(place: Place) -> None:
    shutil.rmtree(place.path / "models")
    place.asked = "-"


def junk(place: Place) -> None:
    """Leave what systems and programs leave in folders."""
    for where in (DATA, "data/raw/digits", "RUN", "models", "src/dummy/models", "configs/model"):
        for name in (".directory", "._cnn.yaml", "notes.txt~", ".fuse_hidden0001", ".network.py.swp"):
            place.write(f"{where}/{name}", "left here")


def dangling(place: Place) -> None:
    """Let the folder of verdicts be a link to a disk that is not there."""
    (place.run / "verdicts").symlink_to(Path("/nowhere/at/all"))


VARIANTS: dict[str, Any] = {}
ONE = ("trace.jsonl was edited",)
CASES = [
    # --- evaluations and metrics that were forged
    Case("evaluations", "a validation metric, forged everywhere", forge_f1, ENVIRONMENT,
         (FORGED, "validation after step 2, in the metrics (val/f1)")),
    Case("evaluations", "predictions, forged with their hash", forge_predictions, ENVIRONMENT,
         ("predictions", FORGED, "every traced step and evaluation is the recorded one")),
    Case("evaluations", "a metric in the trace alone", rewrite_trace(
         lambda rows: rows[-2]["metrics"].update({"val/loss": "0.5"})), TAMPERED,
         ("but the final validation in trace.jsonl gave 0.5",), quick=True),
    Case("evaluations", "a metric in metrics.json and the record", lambda place: reseal(
         place.run, lambda record: record["outputs"]["metrics"].update({"test/f1": 0.99})), TAMPERED,
         ("test/f1 is 0.99 in the record, but the test in trace.jsonl gave 0.",)),
    Case("evaluations", "a curve, forged with its hash", forge_curve, IDENTICAL,
         (SAME, "The curves in history.csv, which are not part of this verdict, have other values (")),
    Case("evaluations", "another layout of metrics.json", json_layout("metrics.json"), IDENTICAL, (SAME,),
         quick=True),
    # --- weights and trace
    Case("outputs", "two bytes of a bias", swap_tensors, TAMPERED, ("model.safetensors: the tensor layers.3.bias",),
         quick=True),
    Case("outputs", "cut off", lambda place: (place.run / "model.safetensors").write_bytes(b"\0" * 99), TAMPERED,
         ("model.safetensors",)),
    Case("outputs", "a folder in their place", folder("model.safetensors"), TAMPERED, ("model.safetensors",)),
    Case("outputs", "in no file, as in a clone", gone("model.safetensors"), IDENTICAL, (SAME,)),
    Case("outputs", "neither predictions nor history, as in a clone", gone("predictions.csv", "history.csv"), IDENTICAL,
         (SAME,)),
    Case("outputs", "a line twice", change_lines(lambda lines: lines.insert(2, lines[1])), TAMPERED, ONE, quick=True),
    Case("outputs", "two lines exchanged", change_lines(lambda lines: lines.insert(1, lines.pop(2))), TAMPERED, ONE),
    Case("outputs", "an empty line at its end", change_lines(lambda lines: lines.append("\n")), TAMPERED, ONE),
    Case("outputs", "its last line removed", change_lines(lambda lines: lines.pop()), TAMPERED, ONE),
    Case("outputs", "a folder in its place", folder("trace.jsonl"), TAMPERED, ("trace.jsonl",)),
    Case("outputs", "gradients of a step, forged everywhere", forge_gradient, ENVIRONMENT,
         ("step 1, in the gradients", FORGED)),
    Case("outputs", "other layouts of record.json and config.yaml", both(json_layout("record.json"), config_layout),
         IDENTICAL, (SAME,), quick=True),
    # --- verdict files
    Case("verdict files", "the run was found TAMPERED: a bundle", spoilt_and_judged(mend=False), REFUSED,
         ("says that it is TAMPERED: metrics.json: val/accuracy",), verb="bundle", quick=True),
    Case("verdict files", "the run was found TAMPERED: a report", both(spoilt_and_judged(mend=False), ask("-")),
         REFUSED,
         ("says that it is TAMPERED",), verb="report", options=("exclude=[reference]",)),
    Case("verdict files", "the run was found TAMPERED, with weights that are gone", both(verdict("TAMPERED"),
         gone("model.safetensors")), REFUSED, ("says that it is TAMPERED: a cause",), verb="bundle"),
    Case("verdict files", "one whose kind was edited", edited_verdict, PASSED_OVER, ("verdicts none yet",),
         ("IDENTICAL",),
         verb="show"),
    Case("verdict files", "that of a sibling", verdict("IDENTICAL", of="seed=1"), PASSED_OVER, ("verdicts none yet",),
         ("IDENTICAL",), verb="show"),
    Case("verdict files", "written by hand", write("RUN/verdicts/2026.json",
         '{"verdict": "IDENTICAL", "when": "2026"}'),
         PASSED_OVER, ("verdicts none yet",), ("IDENTICAL",), verb="show"),
    Case("verdict files", "one that nobody has signed", verdict("IDENTICAL"), SAID,
         ("IDENTICAL (2026-11-27, unsigned)",),
         verb="show", quick=True),
    Case("verdict files", "mended, and judged again: a bundle", spoilt_and_judged(mend=True), SAID, (), ("TAMPERED",),
         verb="bundle"),
    Case("verdict files", "a TAMPERED of the record before this one: a re-run", both(verdict("TAMPERED",
         record="0" * 64)),
         IDENTICAL, (SAME,)),
    # --- manners
    Case("manners", "a record that is a folder", folder("record.json"), REFUSED, ("record.json",), quick=True),
    Case("manners", "a record of half its length", lambda place: (place.run / "record.json").write_bytes(
         (place.run / "record.json").read_bytes()[:5000]), REFUSED, ("record.json",)),
    Case("manners", "a record without outputs", record_with(lambda record: record.pop("outputs")), REFUSED,
         ("record.json",)),
    Case("manners", "a record whose environment is a list", record_with(lambda record: record.update(environment=[])),
         REFUSED, ("record.json",)),
    Case("manners", "no such run", ask("models/cnn-01234567"), REFUSED, ("models/cnn-01234567",)),
    Case("manners", "a file in the place of a run", ask("README.md"), REFUSED, ("README.md",)),
    Case("manners", "a folder that is no run", ask("configs"), REFUSED, ("configs",)),
    Case("manners", "no runs at all", without_runs, REFUSED, ("make train",)),
    Case("manners", "a signature without a key", lambda place: None, REFUSED, ("SSH key",), options=("--sign",)),
    Case("manners", "today's settings with the recorded code", lambda place: None, REFUSED, ("leave out CONFIG=here",),
         options=("--config", "here", "--code", "recorded")),
    Case("manners", "metrics of no numbers", write("RUN/metrics.json", "[NaN]"), TAMPERED, ("metrics.json",)),
    Case("manners", "a config.yaml with a tab", edit("RUN/config.yaml", "  shift: 1", "\tshift: 1"), TAMPERED,
         ("config.yaml cannot be read",)),
    Case("manners", "what systems leave behind", junk, IDENTICAL, (SAME,), ("make data", "code "), quick=True),
    Case("manners", "verdicts that cannot be written", dangling, IDENTICAL, (SAME, "so the verdict's file is ./"),
         ("git add",)),
]  # fmt: skip
