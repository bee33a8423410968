"""Faults that are planted in copies of a project, and what `verify` must say of each: see test_faults.py."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

from .copies import PACKAGE, Copy, flip, write_anew

NETWORK = f"src/{PACKAGE}/models/network.py"
FORWARD = "scores: torch.Tensor = self.layers(images)"
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null")


def reverse_classes(copy: Copy) -> None:
    """Call 0 what was 9, and so on: each label file is an .npy whose values are int64."""
    for path in (copy.path / "data/processed/digits").glob("*_labels.npy"):
        content = path.read_bytes()
        header = 10 + int.from_bytes(content[8:10], "little")
        values = memoryview(bytearray(content[header:])).cast("q")
        write_anew(path, content[:header] + b"".join((9 - value).to_bytes(8, "little") for value in values))


def helper(copy: Copy) -> None:
    """Use code that nobody has committed."""
    (copy.path / "helper.py").write_text("SCALE = 2.0\n")
    copy.edit(NETWORK, "import torch\n", "import helper\nimport torch\n")
    copy.edit(NETWORK, FORWARD, "scores: torch.Tensor = self.layers(images * helper.SCALE)")
    copy.train()


def changed_helper(copy: Copy) -> None:
    helper(copy)
    (copy.path / "helper.py").write_text("SCALE = 1.0\n")


def vanished_helper(copy: Copy) -> None:
    """Use code that Git does not even see."""
    (copy.path / ".git/info/exclude").write_text("helper.py\n")
    helper(copy)
    (copy.path / "helper.py").unlink()


def another_version(copy: Copy) -> None:
    """Install a PyTorch that calls itself another one and initialises weights otherwise."""
    packages = copy.own_environment()
    (information,) = packages.glob("torch-2*.dist-info")
    metadata = (information / "METADATA").read_text()
    write_anew(information / "METADATA", re.sub(r"(?m)^Version: .*", "Version: 2.13.99", metadata, count=1).encode())
    name = "torch/nn/init.py"
    content = (packages / name).read_text()
    changed = content.replace("bound = math.sqrt(3.0) * std", "bound = math.sqrt(3.1) * std")
    assert changed != content
    write_anew(packages / name, changed.encode())
    digest = base64.urlsafe_b64encode(hashlib.sha256(changed.encode()).digest()).rstrip(b"=").decode()
    record = (information / "RECORD").read_text()
    recorded = re.sub(rf"(?m)^{name},.*$", f"{name},sha256={digest},{len(changed)}", record)
    write_anew(information / "RECORD", recorded.encode())


def patched_file(copy: Copy) -> None:
    path = copy.own_environment() / "torch/nn/modules/loss.py"
    old = "return F.cross_entropy("
    content = path.read_text()
    assert old in content
    write_anew(path, content.replace(old, "return 1.0000001 * F.cross_entropy(").encode())


def forge_metric(copy: Copy) -> None:
    """Edit a metric in its file and in the record, and make a new seal: the trace can tell."""
    for name in ("metrics.json", "record.json"):
        path = copy.run / name
        write_anew(path, re.sub(r'("test/accuracy": )[0-9.]+', r"\g<1>0.99", path.read_text()).encode())
    reseal(copy, json.loads((copy.run / "record.json").read_text()))


def reseal(copy: Copy, record: dict[str, Any]) -> None:
    del record["sha256"]
    text = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    write_anew(
        copy.run / "record.json",
        json.dumps(record | {"sha256": hashlib.sha256(text.encode()).hexdigest()}).encode(),
    )


def forge_metric_and_trace(copy: Copy) -> None:
    """Edit it in the last row of the trace, too, and the hash of that in the record: only training again can tell."""
    forge_metric(copy)
    path = copy.run / "trace.jsonl"
    *lines, last = path.read_text().splitlines(keepends=True)
    changed = re.sub(r'("test/accuracy": )"[0-9.]+"', r'\g<1>"0.99"', last)
    assert changed != last
    write_anew(path, "".join([*lines, changed]).encode())
    record = json.loads((copy.run / "record.json").read_text())
    record["outputs"]["trace"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    reseal(copy, record)


def remove_line(copy: Copy) -> None:
    lines = (copy.run / "trace.jsonl").read_text().splitlines(keepends=True)
    (copy.run / "trace.jsonl").write_text("".join(lines[:7] + lines[8:]))


def exchange_weights(copy: Copy) -> None:
    (other,) = (copy.path / "models").glob("reference-cnn-seed=1-*")
    shutil.copy(other / "model.safetensors", copy.run / "model.safetensors")


def unwritten_file(copy: Copy) -> None:
    """Let the model depend on a file that is neither data nor code."""
    notes = copy.path.parent / f"{copy.path.name}-notes.txt"
    notes.write_text("1.0")
    copy.edit(NETWORK, FORWARD, f"scores: torch.Tensor = self.layers(images) * float(open({str(notes)!r}).read())")
    copy.train()
    notes.write_text("1.1")


def in_model(code: str, module: str) -> Callable[[Copy], None]:
    """Make a fault of a model that multiplies its scores with something, and was trained so."""

    def plant(copy: Copy) -> None:
        copy.edit(NETWORK, "import torch\n", f"import {module}\n\nimport torch\n")
        copy.edit(NETWORK, FORWARD, f"scores: torch.Tensor = self.layers(images) * ({code})")
        copy.train()

    return plant


def native(code: str) -> Callable[[Copy], None]:
    """Make a fault of a native training, whose arithmetic is then another one at each start of Python."""

    def plant(copy: Copy) -> None:
        copy.train("determinism=native")
        copy.startup(code)

    return plant


def to_another_user(copy: Copy) -> None:
    """Change HOME, and where the caller is root, the user too."""
    home = copy.path.parent / f"{copy.path.name}-home"
    home.mkdir()
    copy.environment |= {"HOME": str(home), "TMPDIR": str(home)}
    if os.getuid() != 0:
        return
    # a user who may read whatever root can, because the Python under test may lie in root's home
    rights = "+dac_read_search"
    who = ("--reuid=65534", "--regid=65534", "--clear-groups")
    copy.prefix = ("setpriv", *who, f"--inh-caps={rights}", f"--ambient-caps={rights}")
    for folder in (copy.path, home):
        subprocess.run(["chown", "--recursive", "--no-dereference", "65534:65534", str(folder)], check=True)


def comment_in_readme(copy: Copy) -> None:
    (copy.path / "README.md").write_text((copy.path / "README.md").read_text() + "\n<!-- a comment -->\n")
    subprocess.run(["git", *IDENTITY, "commit", "--quiet", "--all", "--message=Comment"], cwd=copy.path, check=True)


def touch_all(copy: Copy) -> None:
    for path in copy.path.rglob("*"):
        if path.is_file() and ".venv" not in path.relative_to(copy.path).parts:
            os.utime(path, (1_000_000_000, 1_000_000_000))


def move_checkout(copy: Copy) -> None:
    other = copy.path.parent / "moved away" / "elsewhere"
    other.parent.mkdir()
    copy.path = copy.path.rename(other)


def raw_byte(copy: Copy) -> None:
    """Change a byte that gzip does not check: the time of compression."""
    path = copy.path / "data/raw/digits/digits.csv.gz"
    before = gzip.decompress(path.read_bytes())
    flip(path, 5)
    assert gzip.decompress(path.read_bytes()) == before
