"""The answer to `--help`: Hydra's own composes all groups first, and takes four times as long."""

from __future__ import annotations

from .config import CONFIGS

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
    """Describe the command line of `python -m <command>`, with the groups that are in configs/ now."""
    folders = sorted(path for path in CONFIGS.iterdir() if path.is_dir() and path.name not in ("hydra", "search"))
    options = {folder.name: ", ".join(sorted(path.stem for path in folder.glob("*.yaml"))) for folder in folders}
    groups = "\n".join(f"  {group:<14}{names}" for group, names in options.items())
    return USAGE.format(command=command, groups=groups)
