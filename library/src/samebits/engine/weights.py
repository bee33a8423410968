"""Weights on disk: safetensors that lead back to their run, compared by content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, deserialize, safe_open

from .errors import UserError
from .files import write_atomically

if TYPE_CHECKING:
    from torch import nn


RUN_KEY = "run"  # the file's only metadata key: with two or more, safetensors writes them in random order
DTYPES = {  # as PyTorch calls them
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def digests(content: bytes) -> tuple[str, dict[str, str]]:
    """Hash weights by content, without PyTorch.

    Args:
        content: of a safetensors file.

    Returns:
        The sha256 over (name, dtype, shape, bytes) of all tensors, sorted by name, and that of each tensor alone.
    """
    everything = hashlib.sha256()
    each: dict[str, str] = {}
    for name, tensor in sorted(deserialize(content)):
        dtype = f"torch.{DTYPES.get(tensor['dtype'], tensor['dtype'])}"
        header = f"{name} {dtype} {tuple(tensor['shape'])}\n".encode()
        alone = hashlib.sha256()
        for sha256 in (everything, alone):
            sha256.update(header)
            sha256.update(tensor["data"])
        each[name] = alone.hexdigest()
    return everything.hexdigest(), each


def kept_part(model: Any) -> nn.Module:
    """Return what of a model is saved: its `network`, where that holds all of its state, and else the model."""
    complete = hasattr(model, "network") and all(
        _plain_name(name).startswith("network.") for name in model.state_dict()
    )
    kept: nn.Module = model.network if complete else model
    return kept


def _plain_name(name: str) -> str:
    """Leave out of a tensor's name what torch.compile adds to it."""
    return name.replace("_orig_mod.", "")


def save(model: nn.Module, path: Path, run_id: str) -> tuple[str, dict[str, str]]:
    """Write the model's weights and the id of the run that made them; return their `digests`."""
    from safetensors.torch import save as to_bytes

    state = kept_part(model).state_dict().items()
    tensors = {_plain_name(name): tensor.detach().cpu().contiguous().clone() for name, tensor in state}
    content = to_bytes(tensors, metadata={RUN_KEY: run_id})
    write_atomically(path, content)
    return digests(content)


def load(model: nn.Module, path: Path) -> str:
    """Put the weights of `path` into the model, on the CPU; return the id of the run that made them.

    Raises:
        UserError: the file is missing or damaged, or its weights are those of another model.
    """
    tensors, run_id = _open(path, "pt")
    network = kept_part(model)
    names = {_plain_name(name): name for name in network.state_dict()}
    try:
        network.load_state_dict({names.get(name, name): tensor for name, tensor in tensors.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).splitlines()[1:2]).strip().rstrip(".")
        raise UserError(
            f"{path} does not fit the model ({reason}): the code or config.yaml has changed since {run_id}"
            " was trained; take them from the same commit as the weights, or train again."
        ) from error
    return run_id


def read_run(path: Path) -> str:
    """Read the id of the run that made the weights, which the file itself carries; `unknown` where it does not.

    Raises:
        UserError: the file is missing or damaged.
    """
    return _open(path, None)[1]


def _open(path: Path, framework: str | None) -> tuple[dict[str, Any], str]:
    if not path.is_file():
        raise UserError(f"{path} is missing: run `make pull` if it was shared, or `make train`.")
    try:
        with safe_open(path, framework=framework or "numpy", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()} if framework else {}  # noqa: SIM118
            return tensors, str((file.metadata() or {}).get(RUN_KEY, "unknown"))
    except SafetensorError as error:
        raise UserError(f"{path} is damaged ({error}): fetch it again (make pull), or train again.") from error
