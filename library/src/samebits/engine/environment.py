"""The environment of a training, as it is in force: read in the process, after the Trainer has set its flags.

Beside processor, threads and flags these are the packages that it loaded, and code from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import re
import site
import sys
import sysconfig
from collections.abc import Callable, Iterable
from email.parser import HeaderParser
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

from . import __version__
from .files import file_sha256
from .inputs import LIBRARY
from .project import project

STARTUP = ("sitecustomize", "usercustomize")  # modules that Python itself loads at each start, if they are there
Modules = dict[str, str]  # name and file


def loaded_modules() -> Modules:
    """List the modules that are loaded from files."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return {name: file for name, file in files.items() if isinstance(file, str) and os.path.isfile(file)}  # noqa: PTH113


@cache
def package_versions() -> dict[str, str]:
    """List all packages that can be imported, and their versions; of one that is there twice, the first counts."""
    found: dict[str, str] = {}
    for each in distributions():
        text = each.read_text("METADATA") or each.read_text("PKG-INFO") or each.read_text("") or ""  # "": it is a file
        about = HeaderParser().parsestr(text.partition("\n\n")[0])  # each.metadata would parse the README as well
        found.setdefault(about["Name"].lower().replace("_", "-"), about["Version"])
    return dict(sorted(found.items()))


def patched_files(modules: Modules) -> dict[str, str]:
    """Find loaded files of packages that are not as they were installed: path and sha256.

    Each wheel brings a list of its files and their hashes, RECORD; the files are compared with it.
    """
    installed = _installed_files()
    files = {file: installed[file] for file in set(modules.values()) if file in installed}
    digests = {file: _sha256(file) for file in files}
    return {
        name: digests[file].hex()
        for file, (name, recorded) in sorted(files.items())
        if base64.urlsafe_b64encode(digests[file]).rstrip(b"=").decode() != recorded
    }


@cache
def _installed_files() -> dict[str, tuple[str, str]]:
    """List the files of all packages: path as Python knows it, name, and the sha256 that came with the package."""
    found: dict[str, tuple[str, str]] = {}
    for each in distributions():
        folder = os.path.join(str(each.locate_file("")), "")  # noqa: PTH118 (60,000 Paths would take two seconds)
        for line in (each.read_text("RECORD") or "").splitlines():  # path,sha256=digest,size; no module's needs quotes
            name, _, rest = line.partition(",sha256=")
            if rest:
                found[folder + name] = name, rest.partition(",")[0]
    return found


@cache
def _sha256(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()


def outside_files(modules: Modules, hashed: Iterable[str]) -> dict[str, str]:
    """Find loaded code that is no input of the run and belongs to no installed package: path and sha256.

    Of a path outside of the project only the name is kept, as `.../name.py`: the rest would tell of this computer, and
    mean nothing on another.

    Args:
        modules: that are loaded, from `loaded_modules()`.
        hashed: the files that are inputs, relative to the folder of the project's packages.
    """
    root, source = project().root, project().source
    inputs = {source / name for name in hashed}
    return {
        path.relative_to(root).as_posix() if path.is_relative_to(root) else f".../{path.name}": file_sha256(path)
        for name, path in sorted(_elsewhere(modules).items())
        if name not in STARTUP and path not in inputs
    }


def startup_modules(modules: Modules) -> dict[str, str]:
    """Find what Python ran before the training: name and sha256."""
    return {name: file_sha256(path) for name, path in sorted(_elsewhere(modules).items()) if name in STARTUP}


def _elsewhere(modules: Modules) -> dict[str, Path]:
    """Find what is neither installed nor the library's: name and path of each module."""
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}  # of the system's Python, where a venv uses them
    known = tuple(f"{folder}{os.sep}" for each in (*folders, str(LIBRARY)) for folder in (each, os.path.realpath(each)))
    others = {name: file for name, file in modules.items() if not file.startswith(known)}
    resolved = {name: Path(file).resolve() for name, file in others.items()}
    return {name: path for name, path in resolved.items() if not str(path).startswith(known)}


# Written down by name alone, so that no secret can be among them: what libraries read to choose their arithmetic
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "GLIBC_TUNABLES",
    "KMP_AFFINITY",
    "MKL_CBWR",
    "MKL_DYNAMIC",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_NUM_THREADS",
    "NPY_DISABLE_CPU_FEATURES",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_DYNAMIC",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_NUM_THREADS",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCHINDUCTOR_FREEZING",
)


def describe_environment(modules: Modules) -> dict[str, Any]:
    """Describe what may change the arithmetic though the inputs are the same.

    Args:
        modules: those that are loaded, from `packages.loaded()`.
    """
    return {
        "python": platform.python_version(),
        "system": {
            "os": f"{platform.system()} {platform.release()}",
            "libc": " ".join(platform.libc_ver()),
            "machine": platform.machine(),
            "container": container(),
        },
        "processor": {"model": hardware(torch.device("cpu")), "cores": visible_cores()},
        "gpu": gpu(),
        "libraries": libraries(),
        "threads": {"operations": torch.get_num_threads(), "between operations": torch.get_num_interop_threads()},
        "flags": flags(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "packages": package_versions() | {"samebits": __version__},  # also where its source lies in the project
        "patched": patched_files(modules),
        "startup": startup_modules(modules),
    }


def visible_cores() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def container() -> str | None:
    """Name the kind of container that this runs in; None outside of one."""
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    return "apptainer" if "APPTAINER_CONTAINER" in os.environ else None


DRIVER = ("/proc/driver/nvidia/version", "/sys/module/nvidia/version")  # one of them says its version


def gpu() -> dict[str, Any] | None:
    """Describe the GPU, if one is in use."""
    if not torch.cuda.is_initialized():
        return None
    drivers = [path for path in map(Path, DRIVER) if path.exists()]
    version = re.search(r"(?:^|Module.*?\s)(\d+\.[\d.]+)", drivers[0].read_text()) if drivers else None
    return {
        "model": torch.cuda.get_device_name(),
        "driver": version[1] if version else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "switches": gpu_switches(),
    }


def libraries() -> dict[str, str]:
    """List the libraries that PyTorch computes with, as it was built: MKL, oneDNN, OpenMP, the compiler."""
    lines = [line.strip("- ").strip() for line in torch.__config__.show().splitlines()]
    known = {"MKL": "Math Kernel Library", "oneDNN": "MKL-DNN", "OpenMP": "OpenMP", "compiler": "GCC"}
    return {
        name: line for name, word in known.items() for line in lines if word in line and "Build settings" not in line
    }


def flags() -> dict[str, Any]:
    """Read PyTorch's switches that change results."""
    return {
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "only warn": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fill uninitialised memory": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "matmul precision": _read(torch.get_float32_matmul_precision),
        "cuDNN deterministic": torch.backends.cudnn.deterministic,
        "cuDNN benchmark": torch.backends.cudnn.benchmark,
        "cuDNN TF32": _read(lambda: torch.backends.cudnn.allow_tf32),
        "oneDNN": torch.backends.mkldnn.enabled,
        "default dtype": str(torch.get_default_dtype()),
        "flush denormals": _flushes_denormals(),
    }


def _read(switch: Callable[[], Any]) -> Any:
    """Read a switch; PyTorch refuses where a program has set one of those that took its place to something else."""
    try:
        return switch()
    except RuntimeError:
        return "set apart"


def gpu_switches() -> dict[str, Any]:
    """Read the switches that matter on a GPU alone: which shorter formats products may use, and kinds of attention."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    matmul = cuda.matmul
    return {
        "float32 in matrix products": _read(lambda: matmul.fp32_precision),
        "float32 in convolutions": _read(lambda: cudnn.conv.fp32_precision),  # type: ignore[attr-defined]
        "float32 in recurrent layers": _read(lambda: cudnn.rnn.fp32_precision),  # type: ignore[attr-defined]
        "sums in bf16": _read(lambda: matmul.allow_bf16_reduced_precision_reduction),
        "sums in fp16": _read(lambda: matmul.allow_fp16_reduced_precision_reduction),
        "flash attention": cuda.flash_sdp_enabled(),
        "memory-efficient attention": cuda.mem_efficient_sdp_enabled(),
        "cuDNN attention": cuda.cudnn_sdp_enabled(),
    }


def _flushes_denormals() -> bool:
    return bool((torch.tensor([1e-39]) * 1.0).item() == 0.0)


def hardware(device: torch.device) -> str:
    """Name the processor or the GPU, as far as it says."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    description = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.*)", description.read_text(), re.M) if description.exists() else None
    return f"{model[1] if model else platform.processor()} ({torch.backends.cpu.get_cpu_capability()})"
