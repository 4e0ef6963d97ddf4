"""The public names are visible to a type checker, as a user's own script needs them."""

import subprocess
import sys
from pathlib import Path

import pytest

import mnist_adder

SCRIPT = """\
from mnist_adder import RECIPES, AdderNet, Recipe, evaluate, fit, load_data
recipe: Recipe = RECIPES["adder"]
accuracy: float = evaluate(fit(recipe, load_data("digits")).model, load_data("digits").test).metrics["joint_accuracy"]
reveal_type(AdderNet().adder)
AdderNet(cnns=3)
"""


def test_a_script_of_five_lines(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", tmp_path / "cache", "script.py"]
    path = {"MYPYPATH": str(Path(mnist_adder.__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=path, capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1 and 'Unexpected keyword argument "cnns"' in errors[0], done.stdout + done.stderr


def test_every_public_name_is_there():
    assert all(getattr(mnist_adder, name) is not None for name in mnist_adder.__all__)
    assert {"fit", "evaluate", "Recipe", "NumberLine", "save_run"} <= set(mnist_adder.__all__)
