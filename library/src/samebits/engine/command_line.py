"""What commands with settings share: the project's folder, Hydra's habits, one sentence for a mistake."""

from __future__ import annotations

import difflib
import errno
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from .adoption import HYDRA, PINNED, complete, own_words, register_groups
from .config import compose, quote, standard_words
from .determinism import changed, supported
from .distributed import Processes, follow_launcher
from .errors import INTERRUPTED, UserError
from .files import DISK_FULL, no_room
from .inputs import NOT_INPUTS
from .printing import printable
from .project import is_adopted, project, require_own_program, use_project
from .secrets import hide_logins

LIBRARY_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
USAGE = """\
Usage: python -m {command} [key=value ...] [-m] [--cfg job] [--info defaults]

  seed=3 trainer.max_epochs=2      change settings for this run
  experiment=wide                  take a named combination of settings (configs/experiment/)
  -m seed=0,1,2                    one run for each value
  debug=fast                       two steps of everything, to see that it works
  models/<run>/config.yaml         repeat a run with its own settings
  --cfg job                        print the whole configuration and stop
  --hydra-help                     more options, of Hydra

Groups of settings, chosen by group=option:

{groups}

Every setting is explained where it stands, in configs/; start with configs/train.yaml."""


def usage(command: str) -> str:
    """Describe the command line of `python -m <command>`, with the groups of the project and of the library."""
    paths = [path for folder in (project().configs, LIBRARY_CONFIGS) for path in folder.glob("*/*.yaml")]
    groups = "\n".join(
        f"  {group:<14}{', '.join(sorted({path.stem for path in paths if path.parent.name == group}))}"
        for group in sorted({path.parent.name for path in paths} - {"hydra", "search"})
    )
    return USAGE.format(command=command, groups=groups)


USER_MISTAKE, UNREAD = 2, 141  # exit statuses
NO_FILE = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENXIO, errno.ELOOP)  # or no folder, where one is to be
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, *NO_FILE)  # OSError.errno where a file or folder may not be used
MULTIRUN = {"-m", "--multirun"}  # Hydra's own, one run after the other in one process, is not used
STARTED_IN, STARTED_WITH = Path.cwd(), dict(os.environ)  # before we change them
SHOW = {"--cfg", "-c", "--info", "-i"}  # Hydra's own: print, and do nothing


def run_command(task: Callable[[DictConfig], Any], config_name: str = "train") -> None:
    """Run `task` with the configuration that Hydra composes from the command line.

    It starts from configs/<config_name>.yaml, or from a run's own config.yaml where one is named. In that, everything
    is written out, so a change would not reach what was derived from it: such a run is repeated as it is, but for what
    does not change the result (`inputs.NOT_INPUTS`).
    The working directory becomes the project's folder, so that a relative path means the same from everywhere.
    """
    spec = sys.modules["__main__"].__spec__
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(usage(spec.name if spec else "train"))
        return
    with one_sentence():
        require_own_program()
    follow_launcher()
    here, adopted = project(), project().adopted
    start = here.configs / f"{config_name.removesuffix('.yaml')}.yaml"
    saved = [argument for argument in sys.argv[1:] if argument.endswith("/config.yaml")]
    if saved:
        start = Path(saved[0]).resolve()
        if not start.is_file():
            fail(f"{saved[0]} is not there: name the config.yaml of a run, in its directory under {here.runs_in}/.")
        sys.argv.remove(saved[0])
        changes = [word for word in sys.argv[1:] if not word.startswith("-") and (counts(word) or is_of_cluster(word))]
        if changes:
            fail(f"{saved[0]} is run as it is, without {changes[0]!r}: leave one of the two out.")
        sys.argv += [
            f"hydra.searchpath=[{quote(f'file://{project().configs}')},pkg://samebits.configs]",
            "+hydra=project",
        ]
    elif adopted:
        sys.argv[1:] = own_words(sys.argv[1:], HYDRA)
        register_groups()
    if adopted and MULTIRUN & set(sys.argv[1:]):
        fail("-m would start several runs in one process, which is pinned for one: give a command for each.")
    sys.argv[1:] = standard_words(sys.argv[1:])
    os.chdir(project().root)
    elsewhere = [word for word in sys.argv[1:] if is_of_cluster(word)]  # where a run takes place, a sweep knows
    if spec and not adopted and (MULTIRUN & set(sys.argv[1:]) or (elsewhere and not SHOW & set(sys.argv[1:]))):
        words = [word for word in sys.argv[1:] if word not in MULTIRUN]
        os.execv(sys.executable, [sys.executable, "-m", "samebits", "sweep", *words])
    from hydra import main as hydra_decorator
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException

    show_traceback = "HYDRA_FULL_ERROR" in os.environ
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then passes its errors on to us

    def guarded(cfg: DictConfig) -> None:
        try:
            task(complete(cfg, HydraConfig.get() if adopted else None))
        except (UserError, OmegaConfBaseException) as error:
            if show_traceback:
                raise
            fail(str(error) if isinstance(error, UserError) else explain(error))
        except BrokenPipeError:
            leave_unread()
        except OSError as error:
            if show_traceback or error.errno not in (*DISK_FULL, *DENIED):
                raise
            fail(unusable(error))

    try:
        hydra_decorator(version_base="1.3", config_path=str(start.parent), config_name=start.stem)(guarded)()
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        if show_traceback:
            raise
        fail(explain(error))
    except KeyboardInterrupt:
        interrupted()


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn a user's mistake into one sentence and the exit status 2, for commands that are no training."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except (UserError, OmegaConfBaseException) as error:
        fail(str(error) if isinstance(error, UserError) else explain(error))
    except KeyboardInterrupt:
        interrupted()
    except BrokenPipeError:
        leave_unread()
    except OSError as error:
        if "HYDRA_FULL_ERROR" in os.environ or not error.filename:
            raise
        fail(unusable(error))


def interrupted() -> NoReturn:
    """Leave after Ctrl-C."""
    print("\nInterrupted.", file=sys.stderr)
    raise SystemExit(INTERRUPTED) from None


def leave_unread() -> NoReturn:
    """Leave since nobody reads what is printed, as after `| head -1`, with the status that shells give then."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(UNREAD) from None


def unusable(error: OSError) -> str:
    """Say in a sentence that a file or folder cannot be read or written, and what mends it."""
    mend = f"cannot be used ({error.strerror}): see whose it is, and what it may be used for (ls -ld)"
    return f"{no_room(error, project().root) or f'{error.filename or project().root} {mend}'}, then start this again."


def command(function: Callable[[], None]) -> Callable[[], None]:
    """Make a function a command of the project: a `UserError` becomes one sentence and the exit status 2."""

    @wraps(function)
    def wrapped() -> None:
        use_project(Path(inspect.getfile(function)).resolve().parent)
        with one_sentence():
            require_own_program()
            function()

    return wrapped


def start_processes(world: int) -> None:
    """Run this command in several processes at once; leave if one of them fails.

    Raises:
        UserError: there is no command, but a notebook.
    """
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        raise UserError("several processes need a command of their own: make train ARGS='trainer=ddp ...'.")
    status = Processes([sys.executable, *sys.orig_argv[1:]], STARTED_IN, STARTED_WITH, world).run()
    if status:
        raise SystemExit(status)


RESTARTED = "SAMEBITS_RESTARTED"  # environment variable: once is enough


def restart_pinned(settings: DictConfig) -> None:
    """Start this command anew, with the environment set, where its program has imported PyTorch before it was set.

    Args:
        settings: the group `determinism`.
    """
    from hydra.core.hydra_config import HydraConfig

    late = "torch" in sys.modules and settings.enabled and changed(settings)
    if late and HydraConfig.initialized() and RESTARTED not in os.environ and supported(settings):
        wanted = {**STARTED_WITH, RESTARTED: "1", **dict(changed(settings, STARTED_WITH))}
        sys.stdout.flush()
        os.chdir(STARTED_IN)
        kept = {name: value for name, value in wanted.items() if value is not None}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], kept)


def own_overrides() -> list[str] | None:
    """Return what the command line gave to Hydra; None where there was none, or a run's own config.yaml."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    given: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # as they were typed, ${...} and all
    return [word for word in given if word != PINNED] if hydra.job.config_name == project().config else None


def is_of_cluster(override: str) -> bool:
    """Whether a setting says where a run takes place, and nothing of the run itself."""
    key = override.lstrip("+~").partition("=")[0]
    return key == "cluster" or key.startswith("cluster.")


def counts(override: str) -> bool:
    """Whether a setting changes the result."""
    key = override.lstrip("+~").partition("=")[0]
    return not any(key == name or key.startswith(f"{name}.") for name in NOT_INPUTS)


def fail(sentence: str) -> NoReturn:
    """Print one sentence and leave with the exit status of a user's mistake."""
    if is_adopted():
        sentence = project().commands(sentence)
    print(f"error: {printable(hide_logins(sentence))}", file=sys.stderr)
    raise SystemExit(USER_MISTAKE)


def explain(error: Exception) -> str:
    """Turn one of Hydra's multi-line errors into a sentence that names the mend."""
    text = str(error)
    if override := getattr(error, "override", None):
        reason = text.splitlines()[0]
        return f"{override!r} is not of the form key=value ({reason}): write no blanks, or put the value in quotes."
    if match := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '([^']+)'", text):
        return f"{match[1]} names several values: for one run each, write -m {match[1]}."
    if isinstance(error, YAMLError):
        return f"a file in configs/ is not YAML ({' '.join(text.split())}): mend that line."
    if match := re.search(r"An item is already at '([^']+)'", text):
        return f"{match[1]} is there already, so there is nothing to add: write {match[1]}=<value>, without the +."
    if match := re.search(r"full_key: (\S+)", text):
        reason = " ".join(text.partition("full_key:")[0].split()).rstrip(".")
        return f"{match[1]} has no value ({reason}): mend what it refers to."
    if match := re.search(r"Could not override '([^']+)'", text):
        key = match[1]
        if key.startswith("data.folds."):
            return f"the data has no setting {key}, so no folds: give its file in configs/data/ the group `folds`."
        known = settings_like(key)
        if known.get(key):
            return f"{key} is a group of settings: give each entry a name, +{key}.<name>=<value>."
        if key in known:
            group = key.partition(".")[0]
            return f"{key} is no setting of the {group} that is chosen: choose one that has it by {group}=<name>."
        hint = suggestion(key, list(known))
        return f"there is no setting {key!r}{hint}; to add one that an object takes, write +{key}=<value>."
    if match := re.search(r"Could not find '([^']+)'\n+Available options in '([^']+)':\n(.*?)\nConfig", text, re.S):
        option, group = match[1].rsplit("/", 1)[-1], match[2]
        return f"{group}={option}: there is no such option; choose from {', '.join(match[3].split())}."
    first = " ".join(text.split("\n\n")[0].split())
    return f"{first.rstrip('.')}: see `--help` for what can be set."


def settings_like(key: str) -> dict[str, bool]:
    """List the settings that one of this name could mean, also those of options that are not chosen: is it a group?"""
    names: dict[str, bool] = {}

    def walk(node: DictConfig, prefix: str) -> None:
        for name in node:
            child = node._get_node(name)
            names[f"{prefix}{name!s}"] = isinstance(child, DictConfig)
            if isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
                walk(child, f"{prefix}{name!s}.")

    group = key.partition(".")[0]
    options = (
        sorted(path.stem for path in (project().configs / group).glob("*.yaml"))
        if group in ("cluster", "search")
        else []
    )
    for words in [[f"{group}={option}"] for option in options] or [[]]:
        walk(compose(words), "")
    return names


def suggestion(key: str, names: list[str]) -> str:
    """Find the setting among `names` that looks most like a misspelt key, `model.optimiser.lr` for example."""
    close = (
        difflib.get_close_matches(key, names, n=1)
        or [name for name in names if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]][:1]
    )
    return f" (did you mean {close[0]!r}?)" if close else ""
