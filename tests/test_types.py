"""The public names are visible to a type checker, as a user's own script needs them."""

import subprocess
import sys
from pathlib import Path

import pytest

import mnist_adder

SCRIPT = """\
import torch
from mnist_adder import RECIPES, AdderDataset, AdderNet, Data, Recipe, Sample, Training
from mnist_adder import evaluate, fit, load_data

recipe: Recipe = RECIPES["adder"]
data: Data = load_data("digits")
accuracy: float = evaluate(fit(recipe, data).model, data).metrics["joint_accuracy"]

class Mine(Training):
    def loss(self, outputs: tuple[torch.Tensor, ...], sample: Sample) -> dict[str, torch.Tensor]:
        return super().loss(outputs, sample)

for row in Mine(recipe, data, withheld=[(3, 4)]):
    print(row["train_loss"] + 1.0)
sample: Sample = AdderDataset(*data.train)[3]
reveal_type(fit(recipe, data))
AdderNet(cnns=3)
"""


CONFIG = """\
[mypy]
follow_imports = silent
incremental = False

[mypy-torch.*,torchvision.*,numpy.*,scipy.*,sklearn.*,matplotlib.*,PIL.*,tqdm.*,safetensors.*]
follow_imports = skip
"""  # of other packages, which take a minute


def test_a_type_checker_knows_the_public_names(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "script.py"]
    path = {"MYPYPATH": str(Path(mnist_adder.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert 'Unexpected keyword argument "cnns"' in errors[0]
    assert 'Revealed type is "mnist_adder.training.Training"' in done.stdout


def test_every_public_name_is_there():
    assert all(getattr(mnist_adder, name) is not None for name in mnist_adder.__all__)
    assert {"Training", "fit", "evaluate", "Recipe", "save_run"} <= set(mnist_adder.__all__)
