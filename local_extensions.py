"""What Jinja must know to write free text into TOML, YAML, JSON and CFF files (loaded by cookiecutter.json)."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

from answer_rules import PYTHON_VERSIONS, refusal

TEMPLATE = Path(__file__).resolve().parent
FOLDER = "{{cookiecutter.project_slug}}"
USUAL_PYTHON = "3.13"  # where cookiecutter runs by one that the locks are not for


def quoted(text: str) -> str:
    """Write `text` as a double-quoted string that TOML, YAML, JSON and Python all read back unchanged.

    Characters beyond ASCII stay as they are: JSON's `\\ud83d\\ude00` for an emoji is an error in TOML and YAML.
    """
    return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def one_line(text: str) -> str:
    """Write `text` so that Markdown shows it as typed: no heading, HTML tag, link or emphasis comes out of it."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|" else char for char in str(text))


def hex_json(value: Any) -> str:
    """Write a value so that it can stand in a hook's string literal, whatever characters it holds."""
    return json.dumps(value).encode().hex()


def accepted(answers: Mapping[str, Any]) -> str:
    """Return the name of the project's folder, or refuse answers that cannot work while nothing has been written yet.

    A hook before generation would be too late: cookiecutter has made the folder by then (of a slug with a slash it
    removes only the last part again), and it prints a traceback under the hook's sentence. A question of its own
    could be answered: `__checked=yes`.
    """
    sentence = refusal(answers)
    if sentence:
        raise FailedHookException(f"{sentence} Nothing was generated.")
    return str(answers["project_slug"])


def this_python() -> str:
    """Return the version of Python to propose: the one that runs cookiecutter, if the locks are for it."""
    version = "{}.{}".format(*sys.version_info)
    return version if version in PYTHON_VERSIONS else USUAL_PYTHON


def callers() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """List the modules whose functions led here, innermost first, each with the function's variables."""
    for frame, _line in traceback.walk_stack(None):
        yield frame.f_globals.get("__name__", ""), frame.f_locals


def origin(_: Any) -> dict[str, Any]:
    """Say where the template lies, and which command of cruft renders it, if one does.

    cruft tells a template nothing about itself. Only the calls that lead here tell `cruft create`, whose project wants
    a Git repository, from `cruft update` and `cruft diff`, which compare two renderings and fail at a `.git` in them.

    Returns:
        `folder`, and under cruft `command` with what it writes into .cruft.json besides: checkout, directory, skip.
    """
    found: dict[str, Any] = {"folder": str(TEMPLATE)}
    for module, variables in callers():
        package, _dot, command = module.rpartition(".")
        if package == "cruft._commands":
            words = {name: variables.get(name) for name in ("checkout", "directory", "skip")}
            return {**found, "command": command, **words}
    return found


class Answers(Extension):
    """Adds what is above, and takes answers given on the command line literally."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        filters = (quoted, one_line, hex_json, accepted, origin)
        environment.filters.update({function.__name__: function for function in filters})
        environment.globals["this_python"] = this_python()
        self.defaults = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8")).values()
        # `cruft update` renders two versions of the template in one process: the second shall import its own modules
        for module in (__name__, "answer_rules"):
            sys.modules.pop(module, None)

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Keep cookiecutter from evaluating `{{ }}` in an answer such as `description='f{{x}}'`.

        A source with a name is a file. Of those without, the hooks, the paths of the template and the defaults in
        cookiecutter.json are meant to be rendered. The first path is the name of the project's folder.
        """
        modules = {module for module, _ in callers()}
        if "cookiecutter.generate" in modules and source == FOLDER:
            return "{{ cookiecutter | accepted }}"
        is_path = "cookiecutter.generate" in modules and "{{cookiecutter." in source
        is_default = "cookiecutter.generate" not in modules and source in self.defaults
        if name is not None or is_path or is_default or "cookiecutter.hooks" in modules:
            return source
        return '{{ "' + "".join(f"\\U{ord(char):08x}" for char in source) + '" }}'
