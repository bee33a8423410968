"""Which installed packages serving needs: `python -m samebits.service.needed` prints the others, for its image.

Needed are the library's own dependencies, those of `serve` under [project.optional-dependencies], and theirs.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(project: Path) -> set[str]:
    """Follow the dependencies from the project's extra `serve`; names of packages, as far as they are installed."""
    asked = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    waiting = [("samebits", ""), *_names(asked["serve"], "")]
    found: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) not in found:
            found.add((name, extra))
            try:
                waiting += _names(distribution(name).requires or [], extra)
            except PackageNotFoundError:
                continue  # what another system needs
    return {name for name, _ in found}


def _names(requirements: list[str], extra: str) -> list[tuple[str, str]]:
    """Read names and extras of what a package with an extra requires here."""
    read = map(Requirement, requirements)
    here = [each for each in read if not each.marker or each.marker.evaluate({"extra": extra})]
    return [(canonicalize_name(each.name), own) for each in here for own in ("", *each.extras)]


def main() -> None:
    """Print the names of what is installed and not needed."""
    keep = needed(Path.cwd())
    print(*sorted({canonicalize_name(each.name) for each in distributions()} - keep))


if __name__ == "__main__":
    main()
