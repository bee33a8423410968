"""Which answers cannot work, and why: asked before anything is written (local_extensions.py)."""

from __future__ import annotations

import keyword
import re
import sys
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

PYTHON_VERSIONS = ("3.11", "3.12", "3.13", "3.14")  # those that the shipped locks hold PyTorch's CPU build for
# No choices of cookiecutter's own: it meets any other answer to one with a traceback, before our code is loaded.
CHOICES = {
    "license": ("MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0-or-later", "Proprietary"),
    "python_version": PYTHON_VERSIONS,
    "ci": ("github", "gitlab", "none"),
}
LONGEST_NAME = 100  # characters: what GitHub takes; an image's name may have 230, a folder's 255 bytes

# Folders of the generated project, and modules that are not called like their distribution in the locks.
TAKEN = {
    "_pytest", "_yaml", "absl", "antlr4", "argon2", "attr", "azure", "bs4", "configs", "conftest", "cuda", "cv2",
    "data", "databricks", "dateutil", "docs", "dotenv", "dvc_http", "dvc_studio_client", "flufl", "fonttools",
    "functorch", "git", "gitdb", "google", "googleapiclient", "graphql", "grpc", "hydra", "hydra_plugins",
    "ipykernel_launcher", "isympy", "jupyter", "jupyterlab_server", "jwt", "lightning", "lightning_fabric",
    "lightning_utilities", "markdown_it", "mlflow", "models", "mpl_toolkits", "mypyc", "notebooks", "nvidia",
    "opentelemetry", "pip", "pkg_resources", "proto", "psycopg2", "public", "py", "pydantic_core", "pydevd_plugins",
    "pylab", "pythonjsonlogger", "pytorch_lightning", "references", "reports", "requirements", "rpds", "ruamel",
    "samebits", "setuptools", "shared", "sitecustomize", "sklearn", "src", "tensorboard", "test", "tests", "torch",
    "torchgen", "torchvision", "triton", "usercustomize", "uv", "validate", "vendor", "wandb", "websocket", "xdist",
    "yaml", "zc", "zmq",
}  # fmt: skip
# Names that Windows keeps for devices: a repository with such a folder cannot be cloned there.
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}

ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_{|}~-]+"
EMAIL = rf"{ATOM}(\.{ATOM})*@[^\W_]([\w-]*[^\W_])?(\.[^\W_]([\w-]*[^\W_])?)*"
OWNER = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?"
# What a name of a Docker image may be; one of 64 hexadecimal digits would be taken for the image's own digest.
SLUG = r"(?![0-9A-Fa-f]{64}\Z)[A-Za-z0-9]+(?:(?:__?|-+)[A-Za-z0-9]+)*"
# The kinds of DVC remotes that the locks have packages for; %(x)s would be replaced when DVC reads its configuration.
REMOTE = r"(?!.*%\()(?:(?:ssh|https?|s3|gs|azure)://[^\s/\"'`#;{}\\][^\s\"'`#;{}\\]*|/[^\"'`#;{}]*)"


@cache
def locked_packages(lock: str = "main") -> set[str]:
    """List what a lock of the generated project installs, in the spelling of modules; `*` for all locks."""
    found = Path(__file__).parent.glob(f"*/requirements/{lock}.txt")
    text = "\n".join(path.read_text(encoding="utf-8") for path in found)
    return {name.replace("-", "_") for name in re.findall(r"^([a-z0-9._-]+)(?:\[.*?\])?==", text, re.MULTILINE)}


def is_text(char: str) -> bool:
    """Whether YAML, TOML and Git can hold a character: no control, no line break, no half or non-character."""
    nothing = 0xFDD0 <= ord(char) <= 0xFDEF or ord(char) & 0xFFFE == 0xFFFE
    return not nothing and unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp")


def refusal(answers: Mapping[str, Any]) -> str | None:
    """Say in one sentence why these answers cannot work, what they are and what would; or return None."""
    for field, answer in answers.items():
        if not isinstance(answer, str):
            if not field.startswith("_"):
                return f"{field}: {answer!r} is not text; write it in quotes."
        elif not all(map(is_text, answer)):
            return (
                f"{field}: {answer!r} holds a line break, a control character or one that is none;"
                " write it as one line of text."
            )
    # Git takes no name that is made of these alone
    for field, idle in {"project_name": " ", "author_name": " .,:;<>\"'\\"}.items():
        if not answers[field].strip().strip(idle):
            return (
                f"{field}: {answers[field]!r} is empty or without a letter;"
                " try for example 'Handwritten Digits' for a project or 'Ada Lovelace' for a name."
            )
    for field, choices in CHOICES.items():
        if answers[field] not in choices:
            return f"{field}: {answers[field]!r} is not to be had; the accepted value is {' or '.join(choices)}."
    slug, package = answers["project_slug"], answers["package_name"]
    if not re.fullmatch(SLUG, slug):
        return (
            f"project_slug: {slug!r} is not made of letters and digits, with - or _ between them, which folder, package"
            " and container image are called by; try for example 'my-experiment'."
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]*", package):
        return (
            f"package_name: {package!r} is not a Python package name (lower-case ASCII letters, digits and _,"
            " a letter first); try for example 'my_experiment'."
        )
    for field, name in {"project_slug": slug, "package_name": package}.items():
        if len(name) > LONGEST_NAME:
            return f"{field}: {name!r} has {len(name)} characters; the longest that is accepted has {LONGEST_NAME}."
        if name.lower() in DEVICES:
            return f"{field}: {name!r} is the name of a device on Windows; try for example 'my{name.lower()}'."
    if re.sub("[-_]+", "_", slug).lower() in locked_packages("*") | {"samebits", "pip", "scratch"}:
        return (
            f"project_slug: {slug!r} is the name of a package that the project installs, or of Docker's empty image;"
            f" try for example 'my-{slug}'."
        )
    if keyword.iskeyword(package) or keyword.issoftkeyword(package) or package in sys.stdlib_module_names:
        return f"package_name: {package!r} is a word or module of Python itself; try for example 'my_{package}'."
    if package in TAKEN | locked_packages("*"):
        return (
            f"package_name: {package!r} is the name of a folder of the project or of a package that it uses;"
            f" try for example 'my_{package}'."
        )
    if not re.fullmatch(EMAIL, answers["author_email"]):
        return f"author_email: {answers['author_email']!r} is not an e-mail address; try for example 'you@example.org'."
    if not re.fullmatch(f"{OWNER}(/{OWNER})*", answers["github_owner"], re.ASCII):
        return f"github_owner: {answers['github_owner']!r} is not a user or group name; try for example 'my-lab'."
    remote = answers["dvc_remote"]
    # a port is no password, but what else stands between a colon and an @, or is called so, may be one
    if re.search(
        r"://([^/@:]*:(?!\d{1,5}(/|$)).*@|[^/@]*:[^/@]*@)|(?i:[?&][^=]*(sig|key|token|secret|passw)[^=]*=)", remote
    ):
        return (
            "dvc_remote holds a password, and would be committed: leave the password out, and give it later in"
            " the project by `.venv/bin/dvc remote modify --local storage password <password>`."
        )
    if remote and not re.fullmatch(REMOTE, remote):
        return (
            f"dvc_remote: {remote!r} is neither an ssh, http, https, s3, gs or azure URL nor an absolute path, without"
            " quotes, braces, #, ;, ` and %(; try for example 'ssh://me@server/dvc' or leave it empty."
        )
    return None
