"""`samebits reproduce [RUN]`: train a run again, print the verdict, and keep it beside the run."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path

from ..engine.errors import UserError
from ..engine.files import write_atomically
from ..engine.run_loader import newest_run
from . import verdict_files
from .comparison import nothing_compared
from .verdict import REPORT, Verdict, print_verdict, write_reproducibility_report
from .verdict_files import VERDICTS
from .verification import Options, Verification


def verify(run: Path, options: Options, keep: bool = True, root: Path | None = None) -> Verdict:
    """Check a run, train it again on the data of `root`, and find the verdict.

    One that went through the whole run is written beside it, if it is to be kept. A UserError says why nothing could be
    compared.
    """
    started = time.time()
    if options.sign:
        if options.probe or not keep:
            raise UserError("there is no verdict's file to be signed: leave out --sign, or --probe and --no-file.")
        verdict_files.require_key()
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        verification = Verification(run, options, Path(folder), root)
        verdict = verification.verdict()
    verdict.details = {
        "record": verification.record["sha256"],
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 1),
        "by": options.by,
        "settings": "here" if options.todays_settings else "recorded",
        "code": "recorded" if options.recorded_code or options.fresh else "here",
        "fresh_environment": options.fresh,
        "machine": verification.machine | {"python": platform.python_version()},
    }
    if keep and not options.probe:
        stem = f"{verdict.details['when'].replace('-', '').replace(':', '')}-{verdict.kind.name}"
        keep_verdict(verdict, run, stem, options.sign)
        try:
            write_reproducibility_report(verification.root)
        except OSError as error:
            verdict.remarks.append(f"{REPORT} cannot be written ({error.strerror}), so it does not tell of this.")
    return verdict


def keep_verdict(verdict: Verdict, run: Path, stem: str, sign: bool) -> None:
    """Write a verdict beside the run, or else into the working directory; say where, if that is not as ever."""
    text, beside = verdict.as_json(), f"{os.path.relpath(run)}/{VERDICTS}"
    try:
        try:
            path = verdict_files.write_verdict(run, stem, text)
        except OSError as error:
            verdict.kept, reason = False, error.strerror
            path = Path.cwd() / f"{verdict.run}-{stem}.json"
            write_atomically(path, f"{text}\n".encode())
            verdict.remarks.append(f"{beside} cannot be written ({reason}), so the verdict's file is ./{path.name}.")
        if sign:
            verdict_files.sign(path)
    except OSError:
        verdict.remarks.append(f"No file keeps this verdict: neither {beside} nor this folder can be written.")
    except UserError as error:
        verdict.remarks.append(f"The verdict's file is not signed: {error}")


def main(arguments: argparse.Namespace) -> None:
    """Print the verdict; the exit status is 0 where it is IDENTICAL, else 1, and 2 where nothing could be compared."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that nothing is left behind
    run = arguments.run or newest_run()
    options = Options(
        probe=arguments.probe,
        recorded_code=arguments.code == "recorded",
        fresh=arguments.fresh,
        todays_settings=arguments.config == "here",
        operator=arguments.op,
        by=arguments.by,
        sign=arguments.sign,
    )
    kept = not arguments.no_file
    if arguments.json:  # all that is printed on the way, also by what is started, goes to stderr
        sys.stdout.flush()
        out = os.dup(1)
        os.dup2(2, 1)
    with nothing_compared():
        verdict = verify(run, options, keep=kept)
    if arguments.json:
        sys.stdout.flush()
        os.dup2(out, 1)
        print(verdict.as_json())
    else:
        print_verdict(verdict, run, kept and verdict.kept)
    raise SystemExit(verdict.status)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    described = argparse.ArgumentParser(
        description="Train a run again and compare every step, tensor and metric with its record.",
        epilog="Exit status: 0 identical, 1 different, 2 nothing could be compared.",
    )
    described.add_argument("run", nargs="?", type=Path, help="folder of a run (default: the one that finished last)")
    described.add_argument("--probe", action="store_true", help="only the first steps, in seconds")
    described.add_argument("--code", choices=("here", "recorded"), default="here", help="which code trains (here)")
    text = "which settings are trained (recorded); here: what configs/ has for the run's command today"
    described.add_argument("--config", choices=("here", "recorded"), default="recorded", help=text)
    described.add_argument("--fresh", action="store_true", help="also install the run's packages anew, from its lock")
    described.add_argument("--op", action="store_true", help="name the first differing operator (trains more)")
    described.add_argument("--by", metavar="NAME", help="who verifies; written into the verdict's file")
    described.add_argument("--sign", action="store_true", help="sign that file with the SSH key by which Git signs")
    described.add_argument("--no-file", action="store_true", help="write neither the verdict nor reproduction.md")
    described.add_argument("--json", action="store_true", help="print the verdict as JSON")
    return described
