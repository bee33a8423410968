"""Train a run again and give a verdict: `python -m <package>.verify [RUN]`, or `make reproduce` and `make probe`."""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path

from .cli import run_with_arguments
from .config import ROOT
from .repro.files import write_atomically
from .repro.redact import redact
from .saved import newest_run
from .verdicts.appendix import write_appendix
from .verdicts.text import print_verdict
from .verdicts.verdict import Verdict
from .verdicts.verification import Options, Verification

VERDICTS = "verdicts"


def verify(run: Path, options: Options, keep: bool = True, root: Path = ROOT) -> Verdict:
    """Check a run, train it again, and find the verdict; one that went through the whole run is kept beside it.

    Args:
        run: its directory, or a published copy.
        options: how.
        keep: whether to write the verdict down.
        root: of the project whose data is read.

    Raises:
        UserError: nothing could be compared.
    """
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        verification = Verification(run, options, Path(folder), root)
        verdict = verification.verdict()
    verdict.details = {
        "record": verification.record["sha256"],
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "by": options.by,
        "code": "recorded" if options.recorded_code or options.fresh else "here",
        "fresh_environment": options.fresh,
        "machine": verification.machine | {"python": platform.python_version()},
    }
    if keep and not options.probe:
        write_verdict(run, verdict)
        write_appendix(root)
    return verdict


def write_verdict(run: Path, verdict: Verdict) -> Path:
    """Write a verdict beside the run, under a name of its own."""
    folder = run / VERDICTS
    folder.mkdir(exist_ok=True)
    stem = f"{verdict.details['when'].replace('-', '').replace(':', '')}-{verdict.kind.name}"
    path, number = folder / f"{stem}.json", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.json", number + 1
    write_atomically(path, f"{json.dumps(redact(verdict.as_dict()), indent=2)}\n".encode())
    return path


def main(arguments: argparse.Namespace) -> None:
    """Print the verdict; the exit status is 0 where it is IDENTICAL, else 1."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that nothing is left behind
    run = arguments.run or newest_run()
    options = Options(arguments.probe, arguments.code == "recorded", arguments.fresh, arguments.op, arguments.by)
    out = sys.stdout
    if arguments.json:
        sys.stdout = sys.stderr  # what is told on the way
    verdict = verify(run, options, keep=not arguments.no_file)
    if arguments.json:
        print(json.dumps(redact(verdict.as_dict()), indent=2), file=out)
    else:
        print_verdict(verdict, run, kept=not arguments.no_file)
    raise SystemExit(verdict.status)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        prog="python -m <package>.verify",
        description="Train a run again and compare every step, tensor and metric with its record.",
        epilog="Exit status: 0 identical, 1 different, 2 nothing could be compared.",
    )
    described.add_argument("run", nargs="?", type=Path, help="folder of a run (default: the one that finished last)")
    described.add_argument("--probe", action="store_true", help="only the first steps, in seconds")
    described.add_argument("--code", choices=("here", "recorded"), default="here", help="which code trains (here)")
    described.add_argument("--fresh", action="store_true", help="also install the run's packages anew, from its lock")
    described.add_argument("--op", action="store_true", help="name the first differing operator (trains more)")
    described.add_argument("--by", metavar="NAME", help="who verifies; written into the verdict's file")
    described.add_argument("--no-file", action="store_true", help="write neither the verdict nor reproduction.md")
    described.add_argument("--json", action="store_true", help="print the verdict as JSON")
    return described


if __name__ == "__main__":
    run_with_arguments(main, parser())
