"""Try all attacks of both houses, and print a table: kind, tried, good. `python -m tests.attacks [--real] [words]`.

Each is a case of a test; what CI tries is every tenth of them or so. They are in the modules `attacks_*.py` here and in
library/tests. With --real, the slow ones instead: real installations, interrupted (an hour). Words choose tests, as
pytest's -k does. The status is 1 unless all are good.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

from .baking import TEMPLATE

HOUSES = {
    TEMPLATE / "library": "doctor faults secrets service strangers",
    TEMPLATE: "attacks_answers attacks_setup attacks_update",
}


def try_all(house: Path, modules: str, wanted: str, real: bool) -> tuple[Counter[str], Counter[str]]:
    """Run the tests of a house; return how many of each kind were tried, and how many of them were good."""
    files = [f"tests/test_{name}.py" for name in modules.split()]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        words = ["-m", "pytest", "-q", "--numprocesses", "2", f"--junitxml={report}", "-k", wanted]
        variables = os.environ | {"ATTACKS": "real" if real else "all"}
        subprocess.run([house / ".venv/bin/python", *words, *files], cwd=house, env=variables)
        cases = ElementTree.parse(report).getroot().iter("testcase") if report.exists() else ()
        tried, good = Counter[str](), Counter[str]()
        for case in cases:
            if found := re.search(r"\[([^:\]-]+): ", case.attrib["name"]):  # with - pytest joins what is no Attack
                tried[found[1]] += 1
                good[found[1]] += not len(case)  # a failure, an error or a skip is an element in it
        return tried, good


def main() -> int:
    """Print the table; return 1 where one was not good, or nothing was tried."""
    described = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    described.add_argument("--real", action="store_true", help="the slow ones: real installations, interrupted")
    described.add_argument("words", nargs="*", help="which tests, as pytest's -k")
    arguments = described.parse_args()
    tried, good = Counter[str](), Counter[str]()
    for house, modules in list(HOUSES.items())[arguments.real :]:  # of the slow ones, the library has none
        for total, counted in zip(
            (tried, good), try_all(house, modules, " ".join(arguments.words), arguments.real), strict=True
        ):
            total.update(counted)
    print(f"\n{'kind':<40}{'tried':>8}{'good':>8}")
    for kind, count in [*tried.items(), ("all", tried.total())]:
        print(f"{kind:<40}{count:>8}{good[kind] if kind != 'all' else good.total():>8}")
    return int(not tried or tried != good)


if __name__ == "__main__":
    sys.exit(main())
