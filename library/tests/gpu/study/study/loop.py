"""The same training without the library: `python -m study.loop plain|lightning FILE word ...`, timed into FILE."""

import json
import sys
import time
from pathlib import Path
from typing import Any


def compose(words: list[str]) -> Any:
    """Compose the settings, those of the library's left out."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(Path(__file__).resolve().parents[1] / "configs"), version_base="1.3"):
        return compose("train", words)


def plain(cfg: Any, path: Path) -> None:
    """Train as a loop of PyTorch's own."""
    import hydra
    import torch

    device = torch.device("cuda" if cfg.trainer.accelerator == "gpu" else "cpu")
    datamodule = hydra.utils.instantiate(cfg.data)
    datamodule.setup()
    model = hydra.utils.instantiate(cfg.model).to(device).train()
    optimizer = model.configure_optimizers()
    mixed = cfg.trainer.precision == "bf16-mixed"
    step, first, last, begun = 0, cfg.callbacks.clock.first, cfg.callbacks.clock.last, 0.0
    while step < last:
        for images, labels in datamodule.train_dataloader():
            if step in (first, last):
                if device.type == "cuda":
                    torch.cuda.synchronize()
                begun, taken = time.perf_counter(), time.perf_counter() - begun
                if step == last:
                    break
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
                loss = model.training_step((images, labels), step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    found = {"step": taken / (last - first), "weights": sum(each.numel() for each in model.parameters())}
    found["gpu_bytes"] = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    path.write_text(json.dumps(found))


def lightning(cfg: Any, path: Path) -> None:
    """Train by Lightning alone."""
    import hydra

    cfg.callbacks.clock.path = str(path)
    datamodule = hydra.utils.instantiate(cfg.data)
    model = hydra.utils.instantiate(cfg.model)
    clock = hydra.utils.instantiate(cfg.callbacks.clock)
    options = {"callbacks": [clock], "logger": False, "enable_checkpointing": False}
    hydra.utils.instantiate(cfg.trainer, **options).fit(model, datamodule)


if __name__ == "__main__":
    import torch

    torch.use_deterministic_algorithms("--free" not in sys.argv)  # the environment is set by who calls
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = "--free" not in sys.argv
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(1)
    words = [word for word in sys.argv[3:] if word != "--free"]
    {"plain": plain, "lightning": lightning}[sys.argv[1]](compose(words), Path(sys.argv[2]))
