"""Faults in what a run is made of: settings, data, seeds, and a sibling's results under another's name."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from .forging import reseal, rewrite
from .planted import (
    DATA,
    ENVIRONMENT,
    IDENTICAL,
    INPUTS,
    PREPARE,
    TAMPERED,
    Case,
    Place,
    Plant,
    Variant,
    both,
    edit,
    nothing,
    write,
)
from .project import module

records, inputs = module("samebits.engine.record"), module("samebits.engine.inputs")
HERE = ("--config", "here")
SAME = "All are the same"
FORGED = "edited the record, all of its parts alike, cannot be excluded"
CNN, DIGITS, TRAIN = "configs/model/cnn.yaml", "configs/data/digits.yaml", "configs/train.yaml"


def named_anew(place: Place, change: Callable[[dict[str, Any], Any], object]) -> None:
    """Change a record and config.yaml alike, and give the run the name, the seals and the trace that fit."""
    from omegaconf import OmegaConf
    from safetensors.torch import load_file, save_file

    run, record = place.run, records.read_record(place.run)
    cfg: Any = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    change(record["inputs"]["config"], cfg)
    digits = inputs.inputs_id(record["inputs"])
    place.name = record["run"] = f"{run.name.rpartition('-')[0]}-{digits}"
    run.rename(place.run)
    (place.run / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(cfg)))
    save_file(load_file(place.run / "model.safetensors"), place.run / "model.safetensors", {"run": place.name})
    records.write_record(place.run, record)
    rewrite(place.run, lambda rows: [row.update(inputs=digits) for row in rows if "inputs" in row])


def forge(key: str, value: Any) -> Plant:
    """Make a plant that forges a setting in all parts of a run."""

    def put(settings: Any) -> None:
        *parents, last = key.split(".")
        for name in parents:
            settings = settings[name]
        assert settings[last] != value
        settings[last] = value

    return lambda place: named_anew(place, lambda *both: [put(each) for each in both])


def relabel(place: Place) -> None:
    """Exchange the labels of two samples."""
    path = place.path / DATA / "val_labels.npy"
    labels = np.load(path)
    other = int(np.flatnonzero(labels != labels[0])[0])
    labels[[0, other]] = labels[[other, 0]]
    np.save(path, labels)


def more_rows(place: Place) -> None:
    """Add the last row once more to the published table."""
    path = place.path / "data/raw/digits/digits.csv.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.unlink()
    path.write_bytes(gzip.compress(b"".join([*lines, lines[-1]])))


def other_rows(place: Place) -> None:
    path = place.path / DATA / "dataset.json"
    made = json.loads(path.read_text())
    made["rows"]["test"].reverse()
    path.write_text(json.dumps(made))


def linked(spoil: Plant) -> Plant:
    """Make a plant that puts the data into another folder and links to it."""

    def plant(place: Place) -> None:
        target = place.path.parent / "copy of the data"
        shutil.move(place.path / DATA, target)
        (place.path / DATA).symlink_to(target)
        spoil(place)

    return plant


def made_anew(place: Place) -> None:
    place.call("-m", "dvc", "repro", "--quiet", "prepare", status=0)


def removed(name: str) -> Plant:
    def plant(place: Place) -> None:
        path = place.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return plant


def beside(place: Place) -> None:
    """Have the run read arrays in another folder than that of the prepared data."""
    shutil.copytree(place.path / DATA, place.path / "arrays")
    place.write(".gitignore", (place.path / ".gitignore").read_text() + "/arrays\n")


def scramble(folder: str) -> Plant:
    def plant(place: Place) -> None:
        path = place.path / folder / "train_labels.npy"
        np.save(path, np.load(path)[::-1])

    return plant


# --- siblings

FILES = ("trace.jsonl", "history.csv", "predictions.csv")


def outputs_of(word: str, fit: bool) -> Plant:
    """Make a plant that puts a sibling's results into a run; with `fit`, its trace is made to name the run's inputs."""

    def plant(place: Place) -> None:
        from safetensors.torch import load_file, save_file

        other = place.sibling(word)
        for name in FILES:
            shutil.copy(other / name, place.run / name)
        save_file(load_file(other / "model.safetensors"), place.run / "model.safetensors", {"run": place.name})
        theirs = records.read_record(other)
        reseal(place.run, lambda record: record.update(outputs=theirs["outputs"], observed=theirs["observed"]))
        if fit:
            digits = place.name.rpartition("-")[2]
            rewrite(place.run, lambda rows: [row.update(inputs=digits) for row in rows if "inputs" in row])

    return plant


def whole_sibling(place: Place) -> None:
    """Let the sibling's directory take the run's name, in its files, too."""
    from safetensors.torch import load_file, save_file

    other = place.sibling("seed=1")
    shutil.rmtree(place.run)
    other.rename(place.run)
    save_file(load_file(place.run / "model.safetensors"), place.run / "model.safetensors", {"run": place.name})
    reseal(place.run, lambda record: record.update(run=place.name))


def weights_of_sibling(place: Place) -> None:
    """Exchange the weights, their hashes and the predictions, but not the trace."""
    from safetensors.torch import load_file, save_file

    other = place.sibling("quicker")
    save_file(load_file(other / "model.safetensors"), place.run / "model.safetensors", {"run": place.name})
    theirs = records.read_record(other)["outputs"]
    kept = {key: theirs[key] for key in ("weights", "tensors")}
    reseal(place.run, lambda record: record["outputs"].update(kept))


def trace_of_sibling(place: Place) -> None:
    other = place.sibling("quicker")
    shutil.copy(other / "trace.jsonl", place.run)
    theirs = records.read_record(other)["outputs"]["trace"]
    reseal(place.run, lambda record: record["outputs"].update(trace=theirs))


def published(place: Place) -> None:
    shutil.copytree(place.run, place.path / "models/best")
    place.asked = "models/best"


def elsewhere(place: Place) -> None:
    target = place.path.parent / "copy on a stick" / place.name
    shutil.copytree(place.run, target)
    place.asked = str(target)


def linked_run(place: Place) -> None:
    (place.path / "models/latest").symlink_to(place.name)
    place.asked = "models/latest"


def others(place: Place) -> None:
    """Remove the siblings, and leave a broken one."""
    shutil.rmtree(place.sibling("seed=1"))
    (place.sibling("quicker") / "record.json").write_text("{")


VARIANTS = {
    "plain": Variant(siblings=(("seed=1",), ("model.optimizer.lr=0.01", "run_name=debug-fast-cnn-quicker"))),
    "beside": Variant(beside, words=("data.module.directory=arrays",)),
}
CASES = [
    # --- settings
    Case("settings", "weight decay, forged everywhere", forge("model.optimizer.weight_decay", 0.1), ENVIRONMENT,
         (FORGED, "step 1, in the weights")),
    Case("settings", "batch size, forged everywhere", forge("data.module.batch_size", 16), ENVIRONMENT,
         (FORGED, "step 1, in the batch")),
    Case("settings", "seed, forged everywhere", forge("seed", 7), ENVIRONMENT,
         ("this record is not of these inputs", FORGED), first="the initial weights"),
    Case("settings", "pixels of augmentation, forged everywhere", forge("data.module.shift", 0), ENVIRONMENT,
         (FORGED, "step 1, in the batch")),
    Case("settings", "dropout in configs/, today", edit(CNN, "dropout: 0.2", "dropout: 0.3"), INPUTS,
         ("settings model.network.dropout", "0.2", "0.3", "in the loss"), options=HERE),
    Case("settings", "one that was not there, today", edit(CNN, "weight_decay:", "eps: 1e-5\n    weight_decay:"),
         INPUTS,
         ("settings model.optimizer.eps", "—", "1e-05"), options=HERE),
    Case("settings", "another model by default, today", edit(TRAIN, "- model: cnn", "- model: mlp"), INPUTS,
         ("settings model.network._target_", "step 0"), options=HERE),
    Case("settings", "seed, today", edit(TRAIN, "\nseed: 0", "\nseed: 5"), INPUTS,
         ("settings seed", "step 0, in the weights"), options=(*HERE, "--probe"),
         quick=True),
    Case("settings", "config.yaml alone", edit("RUN/config.yaml", "shift: 1", "shift: 2"), TAMPERED,
         ("config.yaml: data.module.shift is 2, but the record says 1",)),
    Case("settings", "the command in the record", edit("RUN/record.json", '"debug=fast"', '"debug=slow"'), TAMPERED,
         ("record.json was edited after the run: its seal",)),
    Case("settings", "another seed by default, which is not asked for", edit(TRAIN, "\nseed: 0", "\nseed: 5"),
         IDENTICAL,
         (SAME, "seed: 0 recorded, 5 here", "CONFIG=here"), quick=True),
    Case("settings", "a model that configs/ has no longer", removed(CNN), IDENTICAL,
         (SAME, "cannot be composed from configs/ any more")),
    Case("settings", "settings that do not count", both(edit(DIGITS, "num_workers: 0", "num_workers: 1"),
         edit(TRAIN, "tags: []", "tags: [final]")), IDENTICAL, (SAME,), ("CONFIG=here", "settings "), options=HERE),
    Case("settings", "the same numbers in another writing", edit(CNN, "lr: 0.002", "lr: 2e-3 # as ever"), IDENTICAL,
         (SAME,), ("CONFIG=here",), options=(*HERE, "--probe")),
    # --- data
    Case("data", "the split's code, not run", edit(PREPARE, "random_state=split.seed", "random_state=split.seed + 1"),
         INPUTS, (f"{PREPARE} (stage prepare@digits) changed since the data were made", "make data",
         "every result is the recorded one"), (".npy",), quick=True),
    Case("data", "the split's code, run", both(edit(PREPARE, "random_state=split.seed", "random_state=split.seed + 1"),
         made_anew), INPUTS, (f"stage prepare@digits {PREPARE}",), ("train_labels.npy",),
         first=f"{PREPARE} changed since the run was trained, and the data are made by it"),
    Case("data", "the split's seed, not run", edit(DIGITS, "seed: 0\n", "seed: 1\n"), INPUTS,
         ("data.split.seed (stage prepare@digits) changed", "make data")),
    Case("data", "a stage's command", edit("dvc.yaml", "data.prepare data", "data.prepare data.split.val=0.2 data"),
         INPUTS, ("cmd (stage prepare@digits)", "data.split.val=0.2")),
    Case("data", "two labels exchanged", relabel, INPUTS, ("data val_labels.npy", "nothing was trained"),
         first="are not those that its stage has made"),
    Case("data", "a row more in the raw table", more_rows, INPUTS, ("data raw/digits.csv.gz", "make data")),
    Case("data", "the rows of the split", other_rows, INPUTS, ("data dataset.json",)),
    Case("data", "a file more", write(f"{DATA}/train_weights.npy", "1"), INPUTS, ("data train_weights.npy", "—")),
    Case("data", "no data, and another split in the code", both(edit(PREPARE, "random_state=split.seed",
         "random_state=split.seed + 1"), removed(DATA)), INPUTS, (f"stage prepare@digits {PREPARE}",),
         first=f"{PREPARE} changed since the run was trained, and the data are made by it"),
    Case("data", "no data, which are made again", removed(DATA), IDENTICAL, (SAME,), ("make data",)),
    Case("data", "other data behind a link", linked(relabel), INPUTS, ("data val_labels.npy",)),
    Case("data", "in a folder of its own", scramble("arrays"), INPUTS, ("data train_labels.npy",), of="beside"),
    Case("data", "those that a run in a folder of its own does not read", scramble(DATA), IDENTICAL, (SAME,),
         ("make data",), of="beside"),
    Case("data", "the same data behind a link", linked(nothing), IDENTICAL, (SAME,), ("make data",),
         quick=True),
    Case("data", "the same data, made anew", both(removed(DATA), made_anew), IDENTICAL, (SAME,), ("make data",)),
    Case("data", "another layout of prepare.py", edit(PREPARE, 'as text:\n', 'as text:  # a table\n\n'), IDENTICAL,
         (SAME,), ("stage prepare",)),
    Case("data", "another card", write("data/README.md", "| Title | Other digits |\n"), IDENTICAL, (SAME,)),
    # --- siblings
    Case("sibling", "results of another seed", outputs_of("seed=1", fit=True), ENVIRONMENT,
         ("this record is not of these inputs", FORGED, "step 0, in the weights"), first="the initial weights"),
    Case("sibling", "results of another learning rate", outputs_of("quicker", fit=True), ENVIRONMENT,
         (FORGED, "step 1, in the weights")),
    Case("sibling", "results whose trace names its inputs", outputs_of("quicker", fit=False), TAMPERED,
         ("trace.jsonl is that of a run whose inputs have the hash",),
         quick=True),
    Case("sibling", "all of it, renamed", whole_sibling, TAMPERED, ("record.json: the inputs have the hash",)),
    Case("sibling", "weights and their hashes", weights_of_sibling, TAMPERED,
         ("trace.jsonl: the final validation measured the weights",)),
    Case("sibling", "the trace and its hash", trace_of_sibling, TAMPERED, ("trace.jsonl",)),
    Case("sibling", "the record alone", lambda place: shutil.copy(place.sibling("quicker") / "record.json", place.run),
         TAMPERED, ("the directory is called",)),
    Case("sibling", "a copy that is published", published, IDENTICAL, (SAME,), quick=True),
    Case("sibling", "a copy on another disk", elsewhere, IDENTICAL, (SAME,)),
    Case("sibling", "a link to it", linked_run, IDENTICAL, (SAME,)),
    Case("sibling", "siblings that are gone or broken", others, IDENTICAL, (SAME,)),
]  # fmt: skip
