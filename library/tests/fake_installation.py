"""A tiny environment of three wheels, installed and noted as `make setup` does, at which the doctor looks."""

from __future__ import annotations

import base64
import hashlib
import importlib
import os
import sys
import zipfile
from pathlib import Path
from unittest import mock

from .project import module

doctor, packages = module("samebits.doctor.doctor"), module("samebits.doctor.packages")
loaded_code, project = module("samebits.engine.loaded_code"), module("samebits.engine.project")
OK, ATTENTION, PROBLEM = "ok", "attention", "problem"
KIND = "what is installed"
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
WHEELS = {
    ("alpha", "1.0"): {
        "alpha/__init__.py": "from .core import twice\n",
        "alpha/core.py": "def twice(x):\n    return 2 * x\n",
        "alpha/kernels.so": "\x7fELF",
        "alpha/table.csv": "1,2\n",
        'alpha/a "b", c.txt': "quoted in RECORD",
        "tests/__init__.py": "",
    },
    ("beta_two", "2026.7.4"): {
        "beta.py": "import alpha\n",
        "beta_start.pth": "import beta\n",
        "tests/__init__.py": "#\n",
    },
    ("samebits", "9.9"): {"samebits/__init__.py": "", "samebits/engine.py": "CONTRACT = 2\n"},
}


def digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")


def listed(name: str, content: bytes) -> str:
    """Write a line of a RECORD."""
    quoted = '"{}"'.format(name.replace('"', '""')) if '"' in name or "," in name else name
    return f"{quoted},sha256={digest(content)},{len(content)}"


def build(name: str, version: str, files: dict[str, str], folder: Path) -> Path:
    """Build a wheel, as small as one can be."""
    about = f"{name}-{version}.dist-info"
    texts = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    rows = [listed(each, text.encode()) for each, text in texts.items()]
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for each, text in [*texts.items(), (f"{about}/RECORD", "\n".join([*rows, f"{about}/RECORD,,"]) + "\n")]:
            wheel.writestr(each, text)
    return path


class Fake:
    """A project with locks, and the environment that its `make setup` has made of three wheels, as uv does."""

    def __init__(self, folder: Path) -> None:
        self.root, self.vendor = folder / "project", folder / "project/vendor"
        self.prefix = self.root / ".venv"
        self.site = self.prefix / f"lib/{PYTHON}/site-packages"
        self.site.mkdir(parents=True)
        self.vendor.mkdir()
        (self.root / "requirements").mkdir()
        (self.root / "pyproject.toml").write_text('[project]\nname = "mine"\n[tool.samebits]\npackage = "mine"\n')
        (self.root / ".python-version").write_text("{}.{}\n".format(*sys.version_info))
        (self.prefix / ".choices").write_text("accelerator=cpu\nextras=\n")
        self.wheels = {name: build(name, version, files, self.vendor) for (name, version), files in WHEELS.items()}
        self.lock()
        for name, wheel in self.wheels.items():
            self.install(wheel, name)
        leads = str(self.root / "src")  # as `pip install --editable .` has it
        (self.site / "__editable__.mine-0.1.pth").write_text(leads)
        self.install(build("mine", "0.1", {}, folder), "mine", listed("__editable__.mine-0.1.pth", leads.encode()))
        self.note()

    def lock(self) -> None:
        hashes = {name: hashlib.sha256(wheel.read_bytes()).hexdigest() for name, wheel in self.wheels.items()}
        other = f"    --hash=sha256:{'1' * 64}"
        folder = self.root / "requirements"
        (folder / "main.txt").write_text(
            f"# a comment\nbeta-two==2026.7.4 \\\n{other} \\\n    --hash=sha256:{hashes['beta_two']}\n"
            f"elsewhere==3 ; sys_platform == 'plan9' \\\n{other}\n"
        )
        (folder / "torch-cpu.txt").write_text(f"alpha==1.0 \\\n    --hash=sha256:{hashes['alpha']}\n")
        wheel = self.wheels["samebits"].relative_to(self.root)
        (folder / "samebits.txt").write_text(f"./{wheel} --hash=sha256:{hashes['samebits']}\n")

    def install(self, wheel: Path, name: str, *more: str) -> None:
        with zipfile.ZipFile(wheel) as opened:
            opened.extractall(self.site)
        script = f"#!{self.prefix}/bin/python\n".encode()
        (self.prefix / "bin").mkdir(exist_ok=True)
        (self.prefix / "bin" / name).write_bytes(script)
        record = self.site / f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info/RECORD"
        (record.parent / "INSTALLER").write_text("uv")
        rows = [listed(f"../../../bin/{name}", script), listed(f"{record.parent.name}/INSTALLER", b"uv"), *more]
        record.write_text(record.read_text() + "\n".join(rows) + "\n")

    def note(self) -> None:
        """Write what install.sh does at its end."""
        locks = [path.read_text().replace(" \\\n    ", " ") for path in (self.root / "requirements").glob("*.txt")]
        rows = [
            f"{path.parent.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
            for path in self.site.glob("*.dist-info/RECORD")
        ]
        (self.prefix / ".installed").write_text("".join(["1 2 /project\n", *locks, *rows]))

    def record(self, name: str = "alpha") -> Path:
        return next(self.site.glob(f"{name}-*.dist-info/RECORD"))

    def checks(self, bytecode: bool = False, adopted: bool = False, path: str = "") -> list[packages.Check]:
        """Examine it, as the doctor does in an environment of its own."""
        system = [each for each in sys.path if each.endswith((PYTHON, "lib-dynload"))]
        folders = [os.path.join(self.site, "")]  # noqa: PTH118
        loaded_code.installed.cache_clear()
        importlib.invalidate_caches()
        here = project.Project(self.root, "mine", data=("data",) if adopted else None)
        with (
            mock.patch.object(packages, "folders", lambda: folders),
            mock.patch.object(sys, "path", [*filter(None, [path]), str(self.site), *system]),
            mock.patch.object(sys, "prefix", str(self.prefix)),
            mock.patch.dict(os.environ, {"VENV": str(self.prefix)}),
        ):
            environment = packages.Environment.of(here)
            found = [*doctor._python(here, environment), *packages.check_packages(environment, bytecode)]
        loaded_code.installed.cache_clear()
        return found
