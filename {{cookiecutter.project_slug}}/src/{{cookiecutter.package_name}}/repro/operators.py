"""What each operator of one step computed: by it, two trainings that part ways in a step are told apart in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .fingerprint import of_tensors

NO_RESULT = ("set_", "resize_")  # change what a tensor refers to, before there is anything in it


class OperatorTrace(TorchDispatchMode):
    """Lists [operator, where, fingerprint of its result] while it is switched on.

    Where is the module's name in the forward pass, or `backward`, or `optimizer`. Left out are views, which compute
    nothing, and memory that is yet to be filled.

    Args:
        model: whose modules are named.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.names = {module: name for name, module in model.named_modules()}
        self.modules: list[str] = []
        self.phase = "forward"
        self.on = False
        self.rows: list[list[str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the operator, and note what came out."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = str(func).removeprefix("aten.")
        if func.is_view or name.startswith(NO_RESULT) or "empty" in name:
            return result
        changed = (args, kwargs) if func._schema.is_mutable else ()
        tensors = [leaf for leaf in tree_leaves((result, changed)) if isinstance(leaf, torch.Tensor)]
        if tensors:
            where = self.modules[-1] if self.phase == "forward" and self.modules else self.phase
            self.rows.append([name, where, of_tensors(tensors)])
        return result

    def start(self) -> None:
        """Switch it on."""
        self.hooks = [
            register_module_forward_pre_hook(lambda module, inputs: self._enter(module)),
            register_module_forward_hook(lambda module, inputs, output: self._leave(), always_call=True),
        ]
        self.__enter__()
        self.on = True

    def stop(self) -> list[list[str]]:
        """Switch it off; return the rows so far."""
        self.__exit__(None, None, None)
        self.on = False
        for hook in self.hooks:
            hook.remove()
        return self.rows

    def _enter(self, module: nn.Module) -> None:
        self.modules.append(self.names.get(module, type(module).__name__))

    def _leave(self) -> None:
        self.modules.pop()


def is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile has changed a part of the model: under this trace it would run as if it had not."""
    modules = model.modules()
    return any(hasattr(each, "_orig_mod") or getattr(each, "_compiled_call_impl", None) for each in modules)
