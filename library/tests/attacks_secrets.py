"""Attempts to get a password or a key out of this computer: by files, settings, words of commands, addresses, a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache, partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from .attack import Attack
from .project import NAME, ROOT, UserError, compose, module
from .secret_texts import (
    ADDRESSES,
    ASSIGNED,
    FILES,
    HOLDERS,
    HONEST_FILES,
    HONEST_SETTINGS,
    KEYS,
    PLACES,
    PLANTED,
    RANDOM,
    SHAPES,
    WORDS,
    P,
)
from .test_reruns import git

secrets, snapshot = module("samebits.engine.secrets"), module("samebits.engine.git_snapshot")
inputs, config, rerun = (module(f"samebits.{name}") for name in ("engine.inputs", "engine.config", "verify.rerun"))


def repository(folder: Path) -> Path:
    """Make a repository with one commit."""
    root = folder / "repository"
    root.mkdir()
    (root / "code.py").write_text("x = 1\n")
    for words in ("init --quiet", "add --all", "commit --quiet --message=First"):
        git(root, *words.split())
    return root


def objects(root: Path) -> bytes:
    """Read every object that refs/runs/* reach and the branch does not, with the names of their files."""
    new = subprocess.run(
        ["git", "rev-list", "--objects", "--glob=refs/runs/*", "--not", "HEAD"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout
    ids = b"".join(line.split()[0] + b"\n" for line in new.splitlines())
    return (
        new
        + subprocess.run(["git", "cat-file", "--batch"], cwd=root, check=True, capture_output=True, input=ids).stdout
    )


def kept(folder: Path, name: str, text: str, change: bool = False) -> tuple[dict[str, Any], bytes]:
    """Take a snapshot with that file; return what the record has of it, and all that was written."""
    root, run = repository(folder), folder / "run"
    run.mkdir()
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if change:
        path.write_text("# nothing yet\n")
        git(root, "add", "--force", "--all")
        git(root, "commit", "--quiet", "--message=Second")
    path.write_text(text)
    (root / "code.py").write_text("x = 2\n")
    found = snapshot.take_snapshot(root, "run", run)
    assert found["changed"][0] == "code.py" or "code.py" in found["changed"], "all else is kept"
    return found, objects(root) + b"".join(each.read_bytes() for each in run.iterdir())


def file_is_kept_back(name: str, text: str, change: bool, folder: Path) -> None:
    """A private file is in no object and no patch, and is named."""
    found, written = kept(folder, name, text, change)
    assert (
        PLANTED.encode() not in written
        and RANDOM[:16].encode() not in written
        and RANDOM.upper()[:16].encode() not in written
    )
    assert name in found.get("remark", ""), found


def file_is_seen(name: str, text: str, folder: Path) -> None:
    """A file's text is known to hold a secret, and without it to hold none."""
    assert secrets.why_private(name, text.encode()) == "it holds a password or a key"
    hidden = secrets.redact_text(text, name)
    assert PLANTED not in hidden and RANDOM[:16] not in hidden and secrets.why_private(name, hidden.encode()) == ""


def utf16_is_seen(name: str, folder: Path) -> None:
    """A key is seen in a file as Windows writes it, too."""
    assert secrets.why_private(name, SHAPES["GitHub"].encode("utf-16"))


def file_is_honest(name: str, folder: Path) -> None:
    """A file without a secret goes into the state of the code."""
    found, _ = kept(folder, name, HONEST_FILES[name])
    assert "remark" not in found and name in found["changed"], found


def address_is_hidden(text: str, folder: Path) -> None:
    """A password in an address is in no record."""
    for found in (
        secrets.redact(text),
        secrets.redact({"a": [text]}, settings=True)["a"][0],
        secrets.redact(f"x.url={text}"),
    ):
        assert P not in found and PLANTED not in found and "***" in found


def word_is_hidden(text: str, folder: Path) -> None:
    """A word of a command is recorded without its secret."""
    assert PLANTED not in secrets.redact([text])[0]


def setting_is_refused(settings: dict[str, Any], folder: Path) -> None:
    """A setting that is a secret is refused before anything is written, and would be hidden."""
    cfg: Any = OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(compose())), settings)
    try:
        config.check(cfg)
    except UserError as error:
        assert "${oc.env:" in str(error) and PLANTED not in str(error)
    else:
        raise AssertionError("it was accepted")
    assert PLANTED not in json.dumps(OmegaConf.to_container(inputs.portable_config(cfg)))


def reference_is_kept(settings: dict[str, Any], folder: Path) -> None:
    """A setting that refers to a secret goes on referring to it, in what is recorded and in what is trained again."""
    cfg: Any = OmegaConf.merge(OmegaConf.create(OmegaConf.to_container(compose())), settings)
    config.check(cfg)
    cfg.note = r"\${literal}"
    before = os.environ.pop("MY_TOKEN", None)
    saved = inputs.portable_config(cfg)  # also where the variable is not set
    record = {"inputs": {"config": inputs.settings_that_count(cfg)}}
    os.environ["MY_TOKEN"] = PLANTED
    try:
        assert PLANTED not in OmegaConf.to_yaml(saved) + json.dumps(record)
        assert inputs.settings_that_count(cfg) == record["inputs"]["config"]
        again = rerun.recorded_settings(record, OmegaConf.create(OmegaConf.to_yaml(saved)), ROOT)
        resolved = OmegaConf.to_container(again, resolve=True)
        assert isinstance(resolved, dict) and resolved["note"] == "${literal}"
        del again.note, cfg.note
        assert PLANTED in json.dumps(OmegaConf.to_container(again.model, resolve=True))
        assert OmegaConf.to_container(again.model, resolve=True) == OmegaConf.to_container(cfg.model, resolve=True)
    finally:
        os.environ.pop("MY_TOKEN")
        os.environ |= {"MY_TOKEN": before} if before else {}


def setting_is_honest(key: str, folder: Path) -> None:
    """A setting that is no secret is neither refused nor changed."""
    settings = {"model": {"deep": {key: HONEST_SETTINGS[key]}}}
    assert secrets.secret_settings(settings) == [] and secrets.redact(settings, settings=True) == settings
    assert secrets.redact([f"+model.{key}={HONEST_SETTINGS[key]}"]) == [f"+model.{key}={HONEST_SETTINGS[key]}"]


# --- a run, its report, its bundle and its sharing, with secrets all around

TOKENS = {number: f"{PLANTED}{number:02}" for number in range(40)}
IN_FILES = {
    ".env.local": "ANYTHING={}\n",
    ".env.staged": "ANYTHING={}\n",
    ".netrc": "machine h login me password {}\n",
    "secrets.yaml": "x: {}\n",
    "configs/secrets.yaml": "deep:\n  anything: {}\n",
    ".aws/credentials": "[default]\nx = {}\n",
    "id_rsa": "{}\n",
    "docs/notes.md": SHAPES["a private key"].replace(RANDOM[:64], "{}" + RANDOM[:50], 1),
    "notebooks/try.ipynb": '{{"cells": [{{"source": ["hf_token = \\"{}\\"\\n"]}}]}}\n',
    f"src/{NAME}/upload.py": 'API_KEY = "{}"\n',
    "configs/logger/other.yaml": "options:\n  api_key: {}\n",
    "configs/data/other.yaml": "uri: https://me:p@ss/{}@host/x\n",
    "run.sh": "export WANDB_API_KEY={}\n",
    "compose.override.yaml": "services:\n  a:\n    environment:\n      DB_PASSWORD: {}\n",
    ".dvc/config.local": "['remote \"other\"']\n    password = {}\n",
    "reports/notes.md": "Log in with password='{}'.\n",
    "changed.md": "https://me:{}@host/x\n",
}
OTHERS = (
    "Git's remote",
    "a commit's message",
    "DVC's configuration",
    "a variable",
    "a list of variables",
    "an address",
)


@cache
def planted() -> dict[str, bytes]:
    """Train once among secrets, write report and bundle, push; return all that was written and said, by its name."""
    folder = Path(tempfile.mkdtemp(prefix="planted-"))
    root = folder / "project"
    shutil.copytree(
        ROOT, root, ignore=shutil.ignore_patterns("__pycache__", ".cache", "tmp", "cache", "raw", "processed")
    )
    (root / ".gitignore").write_text("/data/raw\n/data/processed\n__pycache__\n/.cache\n/dist\n")
    (root / "models/.gitignore").write_text("/*\n!/.gitignore\n")
    (root / ".dvc/.gitignore").write_text("/tmp\n/cache\n")
    (root / "changed.md").write_text("nothing\n")
    numbers = iter(range(40))
    values = {name: TOKENS[next(numbers)] for name in [*IN_FILES, *OTHERS]}
    with (root / ".dvc/config").open("a") as file:
        file.write(f"    remote = storage\n['remote \"storage\"']\n    url = {folder / 'storage'}\n")
    with (root / "configs/train.yaml").open("a") as file:
        file.write(
            "\nservice:\n  hf_token: ${oc.env:A_VARIABLE}\n  copy: ${service.hf_token}\n"
            "  passwords: ['${oc.env:LISTED}']\n  header: Bearer ${oc.env:A_VARIABLE_TOKEN,null}\n  url: null\n"
        )
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", f"--message=The password is {values[OTHERS[1]]}")
    git(root, "remote", "add", "origin", f"https://me:{values[OTHERS[0]]}@host/x.git")
    for name, text in IN_FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text.format(values[name]))
    git(root, "add", "--force", ".env.staged")
    with (root / ".dvc/config").open("a") as file:
        file.write(f"['remote \"other\"']\n    url = https://h/x\n    password = {values[OTHERS[2]]}\n")
    (root / "innocent.md").write_text("innocent\n")
    secret = {"A_VARIABLE": values[OTHERS[3]], "A_VARIABLE_TOKEN": values[OTHERS[3]], "LISTED": values[OTHERS[4]]}
    os.environ |= secret
    try:
        words = (
            "trainer.max_epochs=1",
            "trainer.limit_train_batches=2",
            f"service.url='https://me:p/{values[OTHERS[5]]}@h/x'",
        )
        said = [said_by(root, f"{NAME}.data.prepare") if said_by(root, "samebits", "fetch") else ""]
        said.append(said_by(root, f"{NAME}.train", *words))
        (run,) = (path.parent for path in (root / "models").glob("*/metrics.json"))
        for each in (
            ("report",),
            ("bundle", f"models/{run.name}"),
            ("push", f"models/{run.name}"),
            ("show", f"models/{run.name}"),
        ):
            said.append(said_by(root, "samebits", *each))
    finally:
        for name in secret:
            del os.environ[name]
    written = {"what was said": "\n".join(said).encode(), "objects of refs/runs/*": objects(root)}
    for place in ("models", "reports", "shared"):
        files = [path for path in (root / place).rglob("*") if path.is_file() and path != root / "reports/notes.md"]
        written |= {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
    written |= {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("storage/**/*") if path.is_file()
    }
    (bundled,) = (root / "dist").glob("*.zip")
    with zipfile.ZipFile(bundled) as archive:
        written |= {f"zip: {name}": name.encode() + archive.read(name) for name in archive.namelist()}
    written["values"] = json.dumps(values).encode()
    shutil.rmtree(folder)
    return written


def said_by(root: Path, *words: str) -> str:
    """Run a command in the project, and return all that it prints; it must succeed."""
    paths = os.pathsep.join([os.environ["PYTHONPATH"].split(os.pathsep)[0], str(root / "src")])
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=root,
        env=os.environ | {"PYTHONPATH": paths, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr or " "


def run_has_not(name: str, folder: Path) -> None:
    """What was planted there is in nothing that was written or said; what was left out is named."""
    written = planted()
    value = json.loads(written["values"])[name].encode()
    found = [place for place, content in written.items() if place != "values" and value in content]
    assert found == [], found
    if name in IN_FILES and name != ".dvc/config.local":
        assert name.encode() in written["what was said"], written["what was said"].decode()


def run_is_whole(folder: Path) -> None:
    """All else is there: the run, its report, its bundle, the state of its code, and what leads to the variables."""
    written = planted()
    assert b"innocent.md" in written["objects of refs/runs/*"]
    assert {"reports/index.html", "zip"} & {name.partition(":")[0] for name in written}
    (saved,) = (text for name, text in written.items() if name.endswith("config.yaml") and name.startswith("models/"))
    assert b"hf_token: ${oc.env:A_VARIABLE}" in saved and b"https://***@h/x" in saved


def _cases() -> list[Attack]:
    found = []
    for name in FILES:
        found.append(Attack("private file", name, partial(file_is_kept_back, name, f"x {PLANTED}\n", False)))
    for name in (".env", "configs/secrets.yaml", "id_rsa"):
        found.append(
            Attack("private file", f"{name}, changed", partial(file_is_kept_back, name, f"x {PLANTED}\n", True))
        )
    for kind, shape in SHAPES.items():
        for name, text in HOLDERS.items():
            shown = json.dumps(shape)[1:-1] if name.endswith("ipynb") or (name.endswith(".py")) else shape
            found.append(Attack("shape of a key", f"{kind} in {name}", partial(file_is_seen, name, text.format(shown))))
        found.append(
            Attack(
                "key in a file", kind, partial(file_is_kept_back, "src/new.py", f'"""{shape}"""\n', bool(len(kind) % 2))
            )
        )
    for name, texts in ASSIGNED.items():
        for number, text in enumerate(texts):
            case = partial(file_is_seen, name, text.format(P) + "\n")
            found.append(Attack("password by its name", f"{name} {number}", case))
    utf16 = partial(utf16_is_seen, "notes.txt")
    found.append(Attack("key in a file", "UTF-16", utf16))
    found += [Attack("address", text, partial(address_is_hidden, text.replace("{}", P))) for text in ADDRESSES]
    for place, make in PLACES.items():
        for key in KEYS:
            found.append(Attack("setting", f"{key}, {place}", partial(setting_is_refused, make(key, P))))
    for number, value in enumerate(
        (f"${{oc.env:MY_TOKEN,{P}}}", f"${{oc.env:USER,x}}:{P}", f"hunter2 {P}", f"$ecret{P}")
    ):
        found.append(Attack("setting", f"value {number}", partial(setting_is_refused, {"model": {"password": value}})))
    for kind in ("GitHub", "AWS", "a private key"):
        more = {"model": {"anything": [SHAPES[kind] + PLANTED * (kind == "GitHub")]}}
        found.append(Attack("setting", f"{kind} by another name", partial(setting_is_refused, more)))
    for value in (
        "${oc.env:MY_TOKEN}",
        "Bearer ${oc.env:MY_TOKEN}",
        "${oc.env:MY_TOKEN,null}",
        "${oc.decode:${oc.env:MY_TOKEN}}",
    ):
        for place, make in PLACES.items():
            if place != "a list of them":
                found.append(
                    Attack(
                        "reference", f"{value}, {place}", partial(reference_is_kept, _of_model(make("password", value)))
                    )
                )
    for settings in (
        {"anything": "${oc.env:MY_TOKEN}"},
        {"password": "${oc.env:MY_TOKEN}", "copy": "${model.password}"},
    ):
        found.append(Attack("reference", str(settings), partial(reference_is_kept, {"model": settings})))
    found += [Attack("word of a command", text, partial(word_is_hidden, text.format(P))) for text in WORDS]
    found += [Attack("honest setting", key, partial(setting_is_honest, key)) for key in HONEST_SETTINGS]
    found += [Attack("honest file", name, partial(file_is_honest, name)) for name in HONEST_FILES]
    found += [Attack("run among secrets", name, partial(run_has_not, name)) for name in [*IN_FILES, *OTHERS]]
    return [*found, Attack("run among secrets", "all else is there", run_is_whole)]


def _of_model(settings: dict[str, Any]) -> dict[str, Any]:
    return {"model": settings.get("model") or {"more": settings}}


CASES = _cases()
SLOW = ("private file", "key in a file", "honest file")  # each starts Git some twenty times
