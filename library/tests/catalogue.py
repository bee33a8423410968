"""The catalogue of faults: each is planted in a copy of a trained project, and verdict, cause and status are compared.

`python -m tests.catalogue` tries all and prints a table; `--kind KIND` or `--only NAME` try some, and
`--list` lists them. `make soak` calls it; test_catalogue.py tries a fault and a twin of each kind.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from . import cases_code, cases_inputs, cases_loaded, cases_reading, cases_records
from .planted import Case, Variant, Workshop, split

PARTS = (cases_inputs, cases_records, cases_reading, cases_loaded, cases_code)
CASES: list[Case] = [case for part in PARTS for case in part.CASES]
VARIANTS: dict[str, Variant] = {name: variant for part in PARTS for name, variant in part.VARIANTS.items()}


def chosen(kind: str | None, only: str | None) -> list[Case]:
    """List the cases of a kind, or whose name has a text in it; those of one training stand together."""
    found = [case for case in CASES if kind in (None, case.kind) and (only or "") in case.name]
    return sorted(found, key=lambda case: list(VARIANTS).index(case.of))


def main() -> None:
    """Try them; the exit status is 1 where one is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kind", choices=split(CASES), help="only those of a kind")
    parser.add_argument("--only", metavar="NAME", help="only those whose name has this text in it")
    parser.add_argument("--list", action="store_true", help="list them, and try none")
    parser.add_argument("--said", action="store_true", help="print what was said of those that are right, too")
    parser.add_argument("--folder", type=Path, help="where trained projects are kept (default: nowhere)")
    arguments = parser.parse_args()
    cases = chosen(arguments.kind, arguments.only)
    if arguments.list:
        for kind, several in split(cases).items():
            for case in several:
                print(f"{kind:18} {case.verdict:16} {case.name}")
        return
    wrong: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="catalogue-") as folder:
        kept = (arguments.folder or Path(folder)).resolve()
        kept.mkdir(exist_ok=True)
        workshop = Workshop(kept, VARIANTS)
        for number, case in enumerate(cases, 1):
            started = time.monotonic()
            try:
                found = workshop.attempt(case, show=arguments.said)
            except Exception as error:  # the others are tried all the same
                found = f"cannot be tried: {type(error).__name__}: {error}"
            seconds = time.monotonic() - started
            says = "right" if not found else f"WRONG: {found.splitlines()[0]}"
            print(f"{number:3}/{len(cases)} {seconds:5.1f} s  {case.kind}: {case.name}: {says}", flush=True)
            if found:
                wrong[f"{case.kind}: {case.name}"] = found
    for name, found in wrong.items():
        print(f"\n--- {name}\n{found}")
    print(f"\n{'kind':18} {'cases':>6} {'twins':>6} {'right':>6} {'wrong':>6}")
    for kind, several in split(cases).items():
        bad = sum(f"{kind}: {case.name}" in wrong for case in several)
        twins = sum(case.innocent for case in several)
        print(f"{kind:18} {len(several):6} {twins:6} {len(several) - bad:6} {bad:6}")
    print(
        f"{'all':18} {len(cases):6} {sum(case.innocent for case in cases):6} {len(cases) - len(wrong):6} {len(wrong):6}"
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
