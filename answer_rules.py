"""Which answers cannot work: asked before anything is written (cookiecutter.json), and once more by the hook."""

from __future__ import annotations

import keyword
import re
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PYTHON_VERSIONS = ("3.11",)  # the versions that the shipped locks hold PyTorch's CPU build for

# Folders of the generated project, and modules that are not called like their distribution in the lock.
TAKEN = {
    "_pytest", "_yaml", "antlr4", "attr", "bs4", "configs", "cv2", "data", "dateutil", "docs", "dvc_http",
    "dvc_studio_client", "fonttools", "git", "gitdb", "google", "hydra", "hydra_plugins", "jupyterlab_server",
    "lightning", "lightning_fabric", "lightning_utilities", "markdown_it", "mlflow", "models", "mpl_toolkits",
    "mypyc", "notebooks", "nvidia", "pip", "pkg_resources", "pydantic_core", "pylab", "pytorch_lightning",
    "references", "reports", "requirements", "ruamel", "samebits", "setuptools", "shared", "sklearn", "src",
    "tensorboard", "test", "tests", "torch", "torchgen", "torchvision", "triton", "vendor", "wandb", "yaml", "zmq",
}  # fmt: skip


def locked_packages() -> set[str]:
    """List what the generated project's lock installs, in the spelling of modules."""
    lock = next(Path(__file__).parent.glob("*/requirements/main.txt")).read_text(encoding="utf-8")
    return {name.replace("-", "_") for name in re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE)}


def refusal(answers: Mapping[str, Any]) -> str | None:
    """Say in one sentence why these answers cannot work, what they are and what would; or return None."""
    for field, answer in answers.items():
        if isinstance(answer, str) and any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in answer):
            return f"{field}: {answer!r} holds a line break or a control character; write it as one line of text."
    for field in ("project_name", "author_name"):
        if not answers[field].strip():
            return f"{field} is empty; try for example 'Handwritten Digits' for a project or 'Ada Lovelace' for a name."
    slug, package = answers["project_slug"], answers["package_name"]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", slug):
        return f"project_slug: {slug!r} is not made of letters, digits, - and _ alone; try for example 'my-experiment'."
    if not re.fullmatch(r"[a-z][a-z0-9_]*", package):
        return (
            f"package_name: {package!r} is not a Python package name (lower-case ASCII letters, digits and _,"
            " a letter first); try for example 'my_experiment'."
        )
    if keyword.iskeyword(package) or keyword.issoftkeyword(package) or package in sys.stdlib_module_names:
        return f"package_name: {package!r} is a word or module of Python itself; try for example 'my_{package}'."
    if package in TAKEN | locked_packages():
        return (
            f"package_name: {package!r} is the name of a folder of the project or of a package that it uses;"
            f" try for example 'my_{package}'."
        )
    if answers["python_version"] not in PYTHON_VERSIONS:
        return (
            f"python_version: {answers['python_version']!r} has no lock in this template;"
            f" the accepted value is {' or '.join(PYTHON_VERSIONS)}."
        )
    if not re.fullmatch(r"[^\s@<>\"'\\]+@[^\s@<>\"'\\]+", answers["author_email"]):
        return f"author_email: {answers['author_email']!r} is not an e-mail address; try for example 'you@example.org'."
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_./-]*[A-Za-z0-9])?", answers["github_owner"]):
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
    if remote and not re.fullmatch(r"([a-z0-9]+://[^\s\"'#;{}]+|/[^\"'#;{}]*)", remote):
        return (
            f"dvc_remote: {remote!r} is neither a URL nor an absolute path without quotes, braces, # and ;;"
            " try for example 'ssh://me@server/dvc' or leave it empty."
        )
    return None
