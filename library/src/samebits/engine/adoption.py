"""Projects that repro-template did not make: what their settings lack, and the Trainer that they make themselves.

A project is adopted by the table [tool.samebits] in its pyproject.toml, where it says which `data` its trainings read.
Its settings keep their shape; configs/samebits/defaults.yaml adds what the library needs. In a project of the
template's, all of this does nothing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .errors import UserError
from .project import project

DEFAULTS = Path(__file__).resolve().parents[1] / "configs/samebits/defaults.yaml"
PINNED = "+determinism=portable"  # where neither the project nor the command chooses another option of this group
# Hydra makes no directory and writes no log: a run has one directory, which is named when its inputs are known
HYDRA = ("hydra.output_subdir=null", "hydra.run.dir=.", "hydra/job_logging=stdout", "hydra/hydra_logging=default")
GIVEN_BY_HYDRA = re.compile(r"\$\{hydra:([\w.]+)\}")
OWN = ("force", "publish", "snapshot", "run_name", "samebits", "callbacks.resume", "callbacks.trace")


def own_words(words: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """Write the words of a command so that Hydra takes those that its configs do not know, the library's settings.

    Given twice, they stay as they are. With them come `more`.
    """
    if not project().adopted:
        return list(words)
    start = OmegaConf.load(project().configs / f"{project().config}.yaml")
    listed = start.get("defaults") or [] if isinstance(start, DictConfig) else []
    own = not any("determinism" in str(key) for each in listed if isinstance(each, DictConfig) for key in each)
    written = []
    for word in words:
        key = word.partition("=")[0]
        if key == "determinism" and own:
            word = f"+{word}"
        elif any(key == name or key.startswith(f"{name}.") for name in OWN):
            word = f"++{word}"
        written.append(word)
    chosen = not own or any(word.startswith("+determinism=") for word in written)
    # beside the others: options of Hydra's may stand before or after them
    place = next((place for place, word in enumerate(written) if re.match(r"[^-][^=]*=", word)), len(written))
    written[place:place] = [*more, *([] if chosen else [PINNED])]
    return written


@cache
def register_groups() -> None:
    """Let Hydra find the library's groups, after the project's own."""
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class SamebitsGroups(SearchPathPlugin):
        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            search_path.append(provider="samebits", path="pkg://samebits.configs")

    Plugins.instance().register(SamebitsGroups)


def load_program() -> None:
    """Import the module that trains, for what it registers: resolvers of settings, variables that these refer to."""
    if project().adopted:
        folder = str(project().source)
        sys.path[:0] = [] if folder in sys.path else [folder]
        import_module(project().train)


def complete(cfg: DictConfig, hydra: Any) -> DictConfig:
    """Add what the settings lack; where they ask Hydra for its output directory, it is the run's.

    Args:
        cfg: the composed settings.
        hydra: Hydra's own.

    Raises:
        UserError: an entry has another form than the library's.
    """
    if not project().adopted:
        return cfg

    def given(match: re.Match[str]) -> str:
        if match[1] in ("runtime.output_dir", "run.dir"):
            return "${samebits.run}"
        if match[1] == "runtime.cwd":
            return "${samebits.root}"
        value = OmegaConf.select(hydra, match[1], throw_on_missing=False) if hydra is not None else None
        return match[0] if value is None else str(value)

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(each) for key, each in value.items()}
        if isinstance(value, list):
            return [replaced(each) for each in value]
        return GIVEN_BY_HYDRA.sub(given, value) if isinstance(value, str) else value

    defaults = OmegaConf.load(DEFAULTS)
    defaults.samebits.models = "${samebits.root}/" + project().runs_in
    plain = replaced(OmegaConf.to_container(cfg, resolve=False))
    if plain.get("callbacks") is None:
        plain.pop("callbacks", None)
    if not isinstance(plain.get("callbacks", {}), dict):
        raise UserError("callbacks is no group of settings with a name for each: give each callback a name.")
    for name, ours in defaults.callbacks.items():
        if (plain.get("callbacks", {}).get(name) or {}).get("_target_", ours._target_) != ours._target_:
            raise UserError(f"callbacks.{name} is {ours._target_}, which each training needs: call yours otherwise.")
    merged = OmegaConf.merge(defaults, plain)
    assert isinstance(merged, DictConfig)
    OmegaConf.set_struct(merged, True)
    return merged


def without_root(value: Any, root: Path) -> Any:
    """Write paths into the project's folder relative to it, as `./data`: they are to be the same on every computer."""
    if isinstance(value, dict):
        return {key: without_root(each, root) for key, each in value.items()}
    if isinstance(value, list):
        return [without_root(each, root) for each in value]
    if isinstance(value, str) and (value == str(root) or value.startswith(f"{root}/")):
        return f".{value[len(str(root)) :]}" if value != str(root) else "./"
    return value


def require_program(path: Path, config_path: str | None, config_name: str, version_base: str | None) -> None:
    """Refuse a program that is not where the table [tool.samebits] says: other commands would not find it.

    Args:
        path: of the file that `@samebits.main` stands in.
        config_path: of the configs, relative to that file.
        config_name: the first of them.
        version_base: of Hydra, whose ways of before 1.2 are not followed.

    Raises:
        UserError: names the line that is to be written.
    """
    if not project().adopted:
        return
    if version_base not in (None, "1.2", "1.3"):
        raise UserError(f'{path.name} has version_base="{version_base}": write "1.3", whose ways are those of today.')
    here, stem = project(), config_name.removesuffix(".yaml")
    configs = (path.parent / config_path).resolve() if config_path is not None else here.configs
    module = ".".join(path.relative_to(here.source).with_suffix("").parts) if path.is_relative_to(here.source) else ""
    found = {"train": (module, here.train), "config": (stem, here.config)}
    found["configs"] = (str(configs), str(here.configs.resolve()))
    for key, (seen, said) in found.items():
        if seen != said:
            name = Path(seen).relative_to(here.root).as_posix() if seen.startswith(f"{here.root}/") else seen
            raise UserError(
                f'{path.name} has another {key} than pyproject.toml: write {key} = "{name}" in [tool.samebits].'
            )


def require_data(found: dict[str, str], names: Sequence[str]) -> None:
    """Refuse to begin where a part of the data is not there yet: a run is named after them.

    Raises:
        UserError: names the folder or file.
    """
    for name in names:
        if not any(file == name or file.startswith(f"{name.rstrip('/')}/") for file in found):
            raise UserError(
                f"{name} holds no file, but a run is named after the data that it reads: bring them there first"
                " (prepare_data() of the data module does), or mend `data` in [tool.samebits]."
            )
