"""Made-up wheels of the library: what `make update` and `make eject` run from, and a version and contract to choose."""

from __future__ import annotations

import zipfile
from pathlib import Path

from .baking import TEMPLATE

LIBRARY = TEMPLATE / "library/src/samebits"
REAL = ("cli/update.py", "cli/merging.py", "cli/eject.py", "engine/errors.py", "engine/project.py")
CHANGES: dict[str, str] = {}  # of the library's text, by which a control takes a mechanism away
REQUIREMENTS = """\
Requires-Dist: hydra-core<1.4,>=1.3.8
Requires-Dist: tomli; python_version < '3.11'
Provides-Extra: search
Requires-Dist: optuna<5,>=4.9; extra == 'search'
Provides-Extra: ray
Requires-Dist: ray<3,>=2.60; (sys_platform == 'linux') and extra == 'ray'
Provides-Extra: all
Requires-Dist: samebits[ray,search]; extra == 'all'
"""


def write_wheel(vendor: Path, version: str, contract: int = 1) -> Path:
    """Write a wheel into a folder, alone of its name."""
    vendor.mkdir(exist_ok=True)
    for old in vendor.glob("samebits-*.whl"):
        old.unlink()
    files = {f"samebits/{name}": (LIBRARY / name).read_text() for name in REAL}
    for old_text, new_text in CHANGES.items():
        files = {name: text.replace(old_text, new_text) for name, text in files.items()}
    files |= {
        "samebits/__init__.py": f'"""samebits."""\n\n__version__ = "{version}"\n',
        "samebits/cli/__init__.py": "",
        "samebits/engine/__init__.py": "",
        "samebits/engine/inputs.py": f"CONTRACT = {contract}\n",
        f"samebits-{version}.dist-info/METADATA": f"Name: samebits\nVersion: {version}\n{REQUIREMENTS}",
        f"samebits-{version}.dist-info/RECORD": "samebits/__init__.py,sha256=abc,1\n",
    }
    path = vendor / f"samebits-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, text in files.items():
            wheel.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text, zipfile.ZIP_DEFLATED)
    return path
