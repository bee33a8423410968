"""Unpack the vendored library into `src/samebits/`, for who wants to own every line: `make eject`.

Everything works as before: `src/samebits/RECORD` is the wheel's list of its files' hashes, by which the library tells a
file that is as released, and keeps the runs' names, from one that has been edited.

Run as `PYTHONPATH=vendor/samebits-<version>-py3-none-any.whl python3 -m samebits.cli.eject`: it needs the standard
library alone.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

from ..engine.errors import UserError
from ..engine.project import project

PACKAGE = "src/samebits"
LOCK = "requirements/samebits.txt"
DEPENDENCY = re.compile(r'(?P<before>\n[ \t]*)?"samebits(?:\[(?P<extras>[^\]"]*)\])?\s*(?:[=<>~!@][^"]*)?"')
EXTRA = re.compile(r"""(?:\s+and)?\s*extra\s*==\s*['"]([\w-]+)['"]""")
# where uv finds the wheel, and that it may: tables that have nothing else, or the line alone
SOURCES = (
    r"^\[tool\.uv\.sources\].*\nsamebits = .*\n\n",
    r"^\[tool\.hatch\.metadata\]\nallow-direct-references = .*\n\n",
    r"^samebits = \{ path = .*\n",
)
MYPY = """
# the library's types were checked by its own rules
[[tool.mypy.overrides]]
module = "samebits.*"
ignore_errors = true
"""
ISORT = """
# where it is imported, the order of imports stays as it was
[tool.ruff.lint.isort]
known-third-party = ["samebits"]
"""


def main(arguments: argparse.Namespace) -> None:
    """Eject the library, whole or not at all."""
    root = project().root
    if (root / PACKAGE).exists():
        raise UserError(f"{root / PACKAGE} is there already: the library has been ejected, and is yours to edit.")
    wheels = sorted(root.glob("vendor/samebits-*.whl"))
    if len(wheels) != 1:
        raise UserError(f"{root}/vendor has {len(wheels)} wheels of samebits instead of one: git checkout -- vendor")
    (wheel,) = wheels
    # Built aside, and put into place once all of it is there: whatever fails before leaves the project as it was.
    with tempfile.TemporaryDirectory(prefix=".eject-", dir=root / "src") as name, zipfile.ZipFile(wheel) as archive:
        folder = Path(name)
        archive.extractall(folder)
        (info,) = folder.glob("samebits-*.dist-info")
        (info / "RECORD").rename(folder / "samebits/RECORD")
        metadata = message_from_bytes((info / "METADATA").read_bytes())
        text = unhook((root / "pyproject.toml").read_text(encoding="utf-8"), metadata.get_all("Requires-Dist", []))
        (folder / "pyproject.toml").write_text(text, encoding="utf-8")
        (folder / "samebits").rename(root / PACKAGE)
        (folder / "pyproject.toml").replace(root / "pyproject.toml")
    wheel.unlink()
    (root / LOCK).unlink(missing_ok=True)
    if not any(wheel.parent.iterdir()):
        wheel.parent.rmdir()
    print(
        f"{PACKAGE}/ holds samebits {metadata['Version']}, which is yours now. {wheel.relative_to(root)} and {LOCK}"
        "\nare gone; pyproject.toml names the package, and what it needs. Runs keep their names until you edit it."
        "\nNext: make setup && git add --all && git commit --message 'Eject samebits'"
    )


def unhook(text: str, requirements: list[str]) -> str:
    """Return pyproject.toml with the library as a package of the project's own, and its needs as the project's."""
    head, tool, tools = text.partition("\n[tool.")
    first = DEPENDENCY.search(head)  # the library's own needs are listed here, those of an extra where it was named

    def needed(line: re.Match[str]) -> str:
        found = needs(requirements, extras(line) | ({""} if first and line.start() == first.start() else set()))
        return ",".join(f'{line["before"] or " "}"{requirement}"' for requirement in found).lstrip(" ")

    head = DEPENDENCY.sub(needed, head)
    head += '\n[project.scripts]\nsamebits = "samebits.cli:main"\n' if "[project.scripts]" not in head else ""
    tools, packages = re.subn(r'^(packages = \["src/[^]]*)\]', r'\1, "src/samebits"]', tools, count=1, flags=re.M)
    text = head + tool + tools
    for line in SOURCES:
        text = re.sub(line, "", text, flags=re.M)
    for table, key, path in (("ruff", "extend-exclude", "src/samebits"), ("mypy", "exclude", "^src/samebits/")):
        text, extended = re.subn(rf"^{key} = \[", f'{key} = ["{path}", ', text, count=1, flags=re.M)
        if not extended:
            text = re.sub(rf"^\[tool\.{table}\]\n", f'[tool.{table}]\n{key} = ["{path}"]\n', text, count=1, flags=re.M)
    text += MYPY
    text += ISORT if "[tool.ruff.lint.isort]" not in text else ""
    try:
        tomllib.loads(text)
    except ValueError as error:
        raise UserError(f"pyproject.toml could not be rewritten ({error}): bring back its form of before.") from error
    if not first or not packages:
        place = 'packages = ["src/...' if first else '"samebits...'
        raise UserError(f"pyproject.toml has no line {place} any more: put it back as the template wrote it.")
    return text


def extras(dependency: re.Match[str]) -> set[str]:
    """List the extras that are named where the library is depended on."""
    return set(re.findall(r"[\w-]+", dependency["extras"] or ""))


def needs(requirements: list[str], chosen: set[str]) -> list[str]:
    """List what the wheel requires with these extras; the extra "" stands for what it requires without any."""
    found: list[str] = []
    for line in requirements:
        extra = EXTRA.search(line)
        if (extra[1] if extra else "") in chosen:
            requirement = re.sub(r"\s*;\s*$", "", EXTRA.sub("", line)).replace('"', "'")
            inner = DEPENDENCY.fullmatch(f'"{requirement}"')  # an extra that stands for others
            found += needs(requirements, extras(inner)) if inner else [requirement]
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Unpack the library into src/samebits/, to own every line of it.")
    try:
        main(parser.parse_args())
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
