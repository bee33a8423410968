"""The command line: `samebits <verb>`. Each verb is a module's `parser` and `main`, loaded when it is asked for."""

from __future__ import annotations

import argparse
import difflib
import sys
from importlib import import_module

from .. import __version__
from ..engine.errors import UserError

# verb: (module, prefix of its functions, what it does)
VERBS = {
    "reproduce": ("verify.reproduce", "", "train a run again, compare every step, and give a verdict"),
    "compare": ("verify.comparison", "", "say why two runs differ"),
    "show": ("verify.comparison", "show_", "say what made a run, or some weights"),
    "lint": ("lint.lint", "", "read the code for what makes trainings irreproducible, without running it"),
    "invariance": ("verify.invariance", "", "train with what must not matter changed, and compare the weights"),
    "doctor": ("doctor.doctor", "", "say what would keep a run from being reproduced here"),
    "sweep": ("sweep.sweep", "", "train every combination of settings, here or on a cluster"),
    "status": ("sweep.run_status", "", "say where the runs of the sweeps are"),
    "search": ("search.search", "", "search for good settings, as configs/search/ says"),
    "report": ("report.report", "", "write the report on all runs"),
    "replicate": ("report.report", "replicate_", "train the main run's experiment on other data"),
    "bundle": ("bundle.bundle", "", "put a run and all it was made of into one file"),
    "unpack": ("bundle.unpack", "", "unpack a bundle of anybody's, after looking at what is in it"),
    "push": ("share", "", "share runs by Git and the DVC remote"),
    "pull": ("share", "pull_", "fetch data and weights that others have shared"),
    "fetch": ("fetch", "", "fetch the raw data, each file checked against its sha256"),
    "config": ("cli", "config_", "print one of the library's configs, to be copied"),
    "serve": ("service.server", "", "answer with a run's predictions over HTTP"),
    "lab": ("serve", "lab_", "serve JupyterLab and the report"),
    "tracking": ("serve", "tracking_", "serve MLflow's pages behind a password"),
    "update": ("cli.update", "", "bring a newer version of the template"),
    "eject": ("cli.eject", "", "unpack the library's source into the project"),
}
OF_ANY_PROJECT = ("reproduce", "compare", "show", "bundle", "unpack", "config", "lint", "doctor")
HELP = {"--help", "-h"}
FORWARDED = ("fetch", "lab")  # verbs whose arguments are those of Hydra, of JupyterLab


def main(arguments: list[str] | None = None) -> None:
    """Run a verb; a user's mistake is one sentence and the exit status 2."""
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb in ("--help", "-h", "help"):
        print("Usage: samebits <verb> [arguments]\n")
        print("\n".join(f"  {name:<12}{about}" for name, (_, _, about) in VERBS.items()))
        print(
            "\n`samebits <verb> --help` says more. A project is trained by its own command: python -m <package>.train."
        )
        return
    if verb == "--version":
        print(f"samebits {__version__}")
        return
    from ..engine.command_line import one_sentence
    from ..engine.determinism import round_to_nearest
    from ..engine.printing import only_printable
    from ..engine.project import is_adopted

    round_to_nearest()
    if verb == "probe":
        verb, rest = "reproduce", ["--probe", *rest]
    with only_printable(), one_sentence():
        if verb not in VERBS:
            close = difflib.get_close_matches(verb, VERBS, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise UserError(f"samebits has no verb {verb!r}{hint}: `samebits --help` lists them.")
        if verb not in OF_ANY_PROJECT and not HELP & set(rest) and is_adopted():
            raise UserError(f"samebits {verb} needs what a project of repro-template's has: this one has none of it.")
        module, prefix, about = VERBS[verb]
        found = import_module(f"samebits.{module}")
        if verb in FORWARDED:
            if HELP & set(rest):
                print((found.__doc__ or "").strip())
            else:
                getattr(found, f"{prefix}main")(rest)
            return
        parser: argparse.ArgumentParser = getattr(found, f"{prefix}parser", argparse.ArgumentParser)()
        parser.prog = f"samebits {verb}"
        parser.description = parser.description or f"{about[0].upper()}{about[1:]}."
        getattr(found, f"{prefix}main")(parser.parse_intermixed_args(rest))


def config_parser() -> argparse.ArgumentParser:
    """Describe the command line of `samebits config determinism/portable`."""
    text = "Print one of the library's configs, to be copied into the project's configs/, where it wins over this one."
    described = argparse.ArgumentParser(description=text)
    described.add_argument("name", nargs="?", help="as determinism/portable (default: list them)")
    return described


def config_main(arguments: argparse.Namespace) -> None:
    """Print one of the library's configs, or the list of them."""
    from ..engine.command_line import LIBRARY_CONFIGS

    configs = {f"{path.parent.name}/{path.stem}": path for path in sorted(LIBRARY_CONFIGS.glob("*/*.yaml"))}
    if arguments.name is None:
        print("\n".join(configs))
    elif arguments.name in configs:
        print(configs[arguments.name].read_text(encoding="utf-8"), end="")
    else:
        raise UserError(f"the library has no config {arguments.name!r}: choose from {', '.join(configs)}.")
