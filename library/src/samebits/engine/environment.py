"""The environment of a training, as it is in force: read in the process, after the Trainer has set its flags.

Beside processor, threads and flags this is the code that it loaded: see loaded_code.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import __version__, access_log, loaded_code
from .determinism import VARIABLES
from .inputs import input_files
from .loaded_code import Loaded, package_versions

BASE_IMAGE = "BASE_IMAGE"  # the project's Dockerfile sets it


def depended_on(inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """Describe what a training with these inputs has depended on besides, so far.

    Returns:
        The environment; loaded code from elsewhere, name and sha256; and what was touched, from `access_log.findings`.
    """
    with access_log.paused():
        loaded = loaded_code.find_loaded()
        code = loaded_code.outside_files(loaded, inputs["code"])
        touched = access_log.findings(input_files(inputs), loaded.shadowing)
        described = describe_environment(loaded) | {name: touched[name] for name in ("asked", "listed")}
    return described, code, touched


def describe_environment(loaded: Loaded) -> dict[str, Any]:
    """Describe what may change the arithmetic though the inputs are the same.

    Args:
        loaded: the code that is, from `loaded_code.find_loaded`.
    """
    return {
        "python": platform.python_version(),
        "system": {
            "os": f"{platform.system()} {platform.release()}",
            "libc": " ".join(platform.libc_ver()),
            "machine": platform.machine(),
            "container": container(),
            **({"base image": os.environ[BASE_IMAGE]} if BASE_IMAGE in os.environ and container() else {}),
        },
        "processor": {"model": hardware(torch.device("cpu")), "cores": visible_cores()},
        "gpu": gpu(),
        "libraries": libraries(),
        "threads": {"operations": torch.get_num_threads(), "between operations": torch.get_num_interop_threads()},
        "flags": flags(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "packages": package_versions() | {"samebits": __version__},  # also where its source lies in the project
        **loaded.as_record(),
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
