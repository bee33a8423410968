"""The environment of a training, as it is in force: read in the process, after the Trainer has set its flags."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Any

import torch

from . import packages
from .hardware import hardware

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


def describe(package: Path, modules: packages.Modules) -> dict[str, Any]:
    """Describe what may change the arithmetic though the inputs are the same.

    Args:
        package: the folder of the project's own package, whose files are inputs.
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
        "packages": packages.versions(),
        "patched": packages.patched(modules),
        "startup": packages.startup(modules, package),
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


def gpu() -> dict[str, Any] | None:
    """Describe the GPU, if one is in use."""
    if not torch.cuda.is_initialized():
        return None
    driver = Path("/proc/driver/nvidia/version")
    version = re.search(r"Module.*?\s(\d+\.[\d.]+)", driver.read_text()) if driver.exists() else None
    return {
        "model": torch.cuda.get_device_name(),
        "driver": version[1] if version else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
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
        "matmul precision": torch.get_float32_matmul_precision(),
        "cuDNN deterministic": torch.backends.cudnn.deterministic,
        "cuDNN benchmark": torch.backends.cudnn.benchmark,
        "cuDNN TF32": torch.backends.cudnn.allow_tf32,
        "oneDNN": torch.backends.mkldnn.enabled,
        "default dtype": str(torch.get_default_dtype()),
        "flush denormals": _flushes_denormals(),
    }


def _flushes_denormals() -> bool:
    return bool((torch.tensor([1e-39]) * 1.0).item() == 0.0)
