"""Copies of a project that may be spoilt."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "handwritten_digits"
SHORT = ("debug=reference", "snapshot=true")


@dataclass
class Copy:
    """A copy of a project, to be spoilt."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    @property
    def run(self) -> Path:
        """The run that is verified: the one with the seed 0."""
        return next((self.path / "models").glob("reference-cnn-seed=0-*[0-9a-f]"))

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the project's Python."""
        environment = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
        environment |= {"PYTHONPATH": f"{self.path}/src", "GIT_CONFIG_GLOBAL": "/dev/null"} | self.environment
        return subprocess.run(
            [*self.prefix, ".venv/bin/python", "-m", *words],
            cwd=self.path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    def train(self, *overrides: str) -> None:
        """Make the run anew, with what has been changed so far."""
        for old in (self.path / "models").glob("reference-cnn-*"):
            shutil.rmtree(old)
        done = self.call(f"{PACKAGE}.train", *SHORT, *overrides)
        assert done.returncode == 0, done.stdout

    def verify(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Call what `make reproduce` calls."""
        return self.call("samebits", "reproduce", str(self.run), *options)

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace a text, which must be there."""
        path = self.path / name
        content = path.read_text()
        assert old in content, (name, old)
        write_anew(path, content.replace(old, new, 1).encode())

    def own_environment(self) -> Path:
        """Give the copy an environment whose files may be exchanged; return its folder of packages."""
        shared = (self.path / ".venv").resolve()
        (self.path / ".venv").unlink()
        subprocess.run(["cp", "--archive", "--link", str(shared), str(self.path / ".venv")], check=True)
        return next((self.path / ".venv/lib").glob("python*/site-packages"))

    def startup(self, code: str) -> None:
        """Have Python run some code at each start, as `sitecustomize`, once torch has been imported."""
        folder = self.path.parent / f"{self.path.name}-startup"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(STARTUP.replace("CODE", code))
        self.environment["PYTHONPATH"] = f"{self.path}/src{os.pathsep}{folder}"


# Finds torch as usual, and changes it right after its import
STARTUP = """
import builtins, ctypes, sys
original = builtins.__import__
done = []
def hook(name, *arguments, **named):
    if name == "torch" and "torch" not in sys.modules and not done:
        done.append(True)
        before()
        module = original(name, *arguments, **named)
        after(sys.modules["torch"])
        return module
    return original(name, *arguments, **named)
def before(): pass
def after(torch): pass
CODE
builtins.__import__ = hook
"""


def write_anew(path: Path, content: bytes) -> None:
    """Write a file that may be read-only, or share its content with another by a hard link."""
    path.unlink()
    path.write_bytes(content)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    write_anew(path, bytes(content))
