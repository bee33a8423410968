"""A SLURM in miniature, for tests on computers that have none: its commands, over a folder with a file for each job.

`sbatch` runs the script that it is given, in a process of its own; `srun` runs its command; `squeue` lists the jobs;
`scancel` ends one. The state of a job can be written by a test, to say that it was preempted, for example.
"""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COMMANDS = ("sbatch", "squeue", "srun", "scancel", "scontrol")
VALUE_APART = ("--output", "--error")  # options of srun whose value is a word of its own


class Cluster:
    """The jobs, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self) -> Path:
        """Make the commands, and return the folder that PATH has to begin with."""
        commands = self.folder / "bin"
        commands.mkdir()
        for name in COMMANDS:
            path = commands / name
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{self.folder}" {name} "$@"\n')
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return commands

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Read all jobs."""
        return {path.stem: json.loads(path.read_text()) for path in sorted(self.folder.glob("[0-9]*.json"))}

    def change(self, number: str, **values: Any) -> None:
        """Write something of a job."""
        path = self.folder / f"{number}.json"
        values = (json.loads(path.read_text()) if path.exists() else {}) | values
        path.with_suffix(".new").write_text(json.dumps(values))
        path.with_suffix(".new").rename(path)

    def end(self, number: str, state: str) -> None:
        """End a job as SLURM would: it is asked first."""
        self.change(number, state=state)
        os.killpg(self.jobs()[number]["group"], signal.SIGTERM)

    # --- the commands

    def sbatch(self, script: str) -> None:
        number = str(len(self.jobs()) + 1)
        text = Path(script).read_text()
        options = dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.MULTILINE))
        if options.get("partition") == "nowhere":
            sys.exit("sbatch: error: Batch job submission failed: Invalid partition name specified")
        self.change(number, name=options["job-name"], folder=options["chdir"].strip("'"), state="PENDING", script=text)
        words = [sys.executable, __file__, str(self.folder), "carry_out", number, script]
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        print(f"Submitted batch job {number}")

    def carry_out(self, number: str, script: str) -> None:
        while (self.folder / "hold").exists():
            time.sleep(0.05)
        self.change(number, state="RUNNING", group=os.getpid())
        signal.signal(signal.SIGTERM, lambda *signal: None)
        environment = os.environ | {"SLURM_JOB_ID": number, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
        status = subprocess.run(["bash", "-c", self.jobs()[number]["script"]], env=environment).returncode
        if self.jobs()[number]["state"] == "RUNNING":
            self.change(number, state="FAILED" if status else "COMPLETED")

    def srun(self, *words: str) -> None:
        rest = list(words)
        while rest[0].startswith("-"):
            del rest[: 2 if rest[0] in VALUE_APART else 1]
        os.execvp(rest[0], rest)

    def squeue(self, *options: str) -> None:
        wanted = next((word.partition("=")[2] for word in options if word.startswith("--jobs=")), "")
        for number, job in self.jobs().items():
            if wanted in ("", number):
                full = "|".join((number, job["state"], "None", "node1", job["name"], job["folder"]))
                print(job["state"] if wanted else full)

    def scancel(self, number: str) -> None:
        self.end(number, "CANCELLED")

    def scontrol(self, *words: str) -> None:
        self.change("requeued", words=words)  # not counted among the jobs


if __name__ == "__main__":
    getattr(Cluster(Path(sys.argv[1])), sys.argv[2])(*sys.argv[3:])
