"""The commands as a user types them: quick help, one sentence for a mistake, predictions."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samebits.cli import VERBS

from .project import NAME, ROOT, UserError, command, module


def test_help_needs_no_torch() -> None:
    names = ", ".join(f"{NAME}.{name}" for name in ("train", "evaluate", "predict", "data.prepare"))
    code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    done = command("train", "--help")
    assert done.returncode == 0 and f"python -m {NAME}.train" in done.stdout, done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_without_torch(verb: str) -> None:
    code = f"import sys; from samebits.cli import main; sys.argv = ['samebits', '{verb}', '--help']; main()"
    watched = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    done = subprocess.run([sys.executable, "-c", watched], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) > 3, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "False"
    assert verb in command("--help").stdout


def test_a_verb_that_there_is_not_gets_one_sentence() -> None:
    done = command("reproduced")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and "did you mean 'reproduce'" in done.stderr


def test_the_librarys_configs_are_printed_to_be_copied() -> None:
    printed = command("config", "determinism/portable")
    assert printed.returncode == 0 and "portable: true" in printed.stdout
    assert "determinism/portable" in command("config").stdout
    assert command("config", "determinism/none").returncode == 2


def test_the_configuration_can_be_printed_from_another_folder(tmp_path: Path) -> None:
    done = command("train", "--cfg", "job", "seed=5", cwd=tmp_path)
    assert done.returncode == 0 and "seed: 5" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trainer.max_epoch=2"], "no setting 'trainer.max_epoch' (did you mean 'trainer.max_epochs'?)"),
        (["model.optimiser.lr=2"], "did you mean 'model.optimizer.lr'?"),
        (["sed=1"], "did you mean 'seed'?"),
        (["experiment=wid"], "experiment=wid: there is no such option; choose from wide"),
        (["modle=cnn"], "no setting 'modle' (did you mean 'model'?)"),
        (["+sead=1"], "no setting 'sead' (did you mean 'seed'?)"),
        (["seed=0,1"], "for one run each, write -m seed=0,1"),
        (["models/nothing/config.yaml"], "models/nothing/config.yaml is not there"),
        (["seed=[1"], "seed=[1"),
        (["trainer.max_epochs=-3"], "trainer.max_epochs is -3, but must be a whole number of at least 1"),
        (["trainer.max_epochs=x"], "trainer.max_epochs is 'x', but must be"),
        (["seed=${nothing}"], "nothing"),
        (["paths.processed=/no/such/folder"], "run `make data`"),
        (["paths=1"], "paths is 1, but must be a group of settings"),
    ],
)
def test_a_mistake_gets_one_sentence(arguments: list[str], sentence: str) -> None:
    done = command("train", *arguments)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("arguments", [["no-such-file.png"], ["pyproject.toml"], ["README.md", "--run", "nowhere"]])
def test_predict_refuses_in_one_sentence(arguments: list[str]) -> None:
    done = command("predict", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


def test_predictions_from_csv_and_from_an_image(trained: Path, workspace: Path, tmp_path: Path) -> None:
    images = np.load(workspace / "data/processed/test_images.npy")[:3]
    np.savetxt(tmp_path / "digits.csv", images.reshape(3, -1), fmt="%d", delimiter=",")
    predict = module("dummy.predict").predict
    rows = predict(tmp_path / "digits.csv", trained)
    assert [row["row"] for row in rows] == [1, 2, 3]
    assert all(0 <= row["label"] <= 9 and 0.1 <= row["probability"] <= 1 for row in rows)

    large = Image.fromarray((images[0] * 15.9375).astype(np.uint8)).resize((80, 80), Image.Resampling.NEAREST)
    large.save(tmp_path / "digit.png")
    assert predict(tmp_path / "digit.png", trained) == rows[:1]
    Image.fromarray(255 - np.asarray(large)).save(tmp_path / "ink.png")
    assert predict(tmp_path / "ink.png", trained, invert=True) == rows[:1]

    clear = Image.new("RGBA", large.size, (255, 255, 255, 0))
    clear.putalpha(large)
    clear.save(tmp_path / "clear.png")
    assert predict(tmp_path / "clear.png", trained)[0]["label"] == rows[0]["label"]

    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="empty"):
        predict(tmp_path / "empty.csv", trained)
    (tmp_path / "wrong.csv").write_text("1,2,3\n")
    with pytest.raises(UserError, match="3 columns"):
        predict(tmp_path / "wrong.csv", trained)


def test_the_command_prints_json(trained: Path, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "digits.csv").write_text(",".join(["0"] * 64) + "\n")
    done = command("predict", str(tmp_path / "digits.csv"), "--run", str(trained), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["row"] == 1
    assert trained.name in done.stderr
