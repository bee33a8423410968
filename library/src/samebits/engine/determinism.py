"""Pins what would otherwise vary between two runs with the same inputs: the `determinism` group of the settings."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from .errors import UserError

X86 = ("x86_64", "AMD64")
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


def supported(determinism: DictConfig) -> bool:
    """Whether the processor has the instructions that the settings pin; True where it is of another kind."""
    description = Path("/proc/cpuinfo")
    if determinism.env.get("ATEN_CPU_CAPABILITY") != "avx2" or not description.exists():
        return True
    return platform.machine() not in X86 or bool(re.search(r"^flags\s*:.*\bavx2\b", description.read_text(), re.M))


def round_to_nearest() -> None:
    """Undo another rounding that something has set as Python began: with it, settings are read as other numbers."""
    tiny = sys.float_info.epsilon / 8
    if not 1.0 + tiny == 1.0 == 1.0 - tiny:
        import ctypes

        ctypes.CDLL(None).fesetround(0)  # FE_TONEAREST


def before_torch(determinism: DictConfig) -> None:
    """Set the environment variables that PyTorch, NumPy and their libraries read once; null removes one."""
    if not supported(determinism):
        raise UserError(
            "determinism=portable pins the AVX2 instructions, which this processor lacks: say determinism=native."
        )
    for name, value in determinism.env.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = str(value)


def changed(determinism: DictConfig, environment: Mapping[str, str] = os.environ) -> list[tuple[str, Any]]:
    """List the variables that are not yet as the settings say: name and value, None where it is to be removed."""
    pinned = {name: None if value is None else str(value) for name, value in determinism.env.items()}
    return [(name, value) for name, value in pinned.items() if environment.get(name) != value]


def require_untouched(determinism: DictConfig) -> None:
    """Refuse to train where PyTorch has been loaded with another environment, which it will not read again."""
    if determinism.enabled and "torch" in sys.modules:
        for name, value in changed(determinism):
            what = f"{name} could be removed" if value is None else f"{name}={value} could be set"
            raise UserError(
                f"PyTorch was loaded before {what}: train with other `determinism` settings in a"
                " command of its own, or restart the notebook and call train() before torch is imported."
            )


def pin_threads(determinism: DictConfig) -> None:
    """Set the number of threads, for a process that has loaded PyTorch already."""
    import torch

    if determinism.threads is not None:
        torch.set_num_threads(determinism.threads)


def after_torch(determinism: DictConfig) -> None:
    """Set what PyTorch lets one set after it has been loaded, and say what is not pinned."""
    import torch

    pin_threads(determinism)
    torch.use_deterministic_algorithms(determinism.enabled)
    if not determinism.enabled:
        print("determinism=off: nothing is pinned, so another run with the same inputs may give other weights.")
        return
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False  # it would choose the kernel that is fastest at this moment
    if getattr(torch.backends, "fp32_precision", "none") != "none":  # which a program has set, for all of them
        torch.backends.fp32_precision = "none"  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("highest")  # no TF32: it differs between kinds of GPU
    torch.backends.cudnn.allow_tf32 = False
    if determinism.portable and platform.machine() not in X86:
        print(f"determinism=portable: on {platform.machine()} only this kind of processor gives the same weights.")
    pinned = determinism.env.get("ATEN_CPU_CAPABILITY")
    found = torch.backends.cpu.get_cpu_capability()
    if pinned and platform.machine() in X86 and found.lower() != pinned:
        raise UserError(f"PyTorch uses {found} instead of {pinned}: train in a command of its own.")


def explain(error: RuntimeError) -> UserError | None:
    """Turn PyTorch's refusal of an operation that has no deterministic implementation into a sentence, else None."""
    operation = re.search(r"(\S.*?) does not have a deterministic implementation", str(error))
    if operation is None:
        return None
    return UserError(
        f"the operation {operation[1]} has no deterministic implementation: replace it in the model (PyTorch's page on"
        " reproducibility lists such operations), or say determinism=off, and live with results that vary."
    )
