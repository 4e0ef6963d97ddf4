"""The README: its commands and its Python run as printed, with the bundled digits and one epoch."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import first

import mnist_adder
from mnist_adder import __main__

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OURS = "python -m mnist_adder "


def blocks(language: str) -> list[str]:
    """The README's code in a language; a block under the comment "long" is not among them."""
    pattern = rf"^(<!-- long -->\n)?```{language}\n(.*?)^```$"
    found = re.findall(pattern, README, re.MULTILINE | re.DOTALL)
    return [code for long, code in found if not long]


@pytest.fixture
def short(digits, monkeypatch, tmp_path):
    """One epoch on few digits, in an empty folder, whatever the README asks for."""
    few = first(digits, 300, 60)
    recipes = {name: replace(recipe, epochs=1) for name, recipe in mnist_adder.RECIPES.items()}
    monkeypatch.chdir(tmp_path)
    for module in (mnist_adder, __main__):
        monkeypatch.setattr(module, "load_data", lambda *_, **__: few)
    monkeypatch.setattr(mnist_adder, "RECIPES", recipes)
    monkeypatch.setattr(__main__, "RECIPES", recipes)


def test_the_commands_run(short):
    lines = [
        line.partition("  #")[0].strip() for code in blocks("bash") for line in code.split("\n")
    ]
    commands = [line.removeprefix(OURS) for line in lines if line.startswith(OURS)]
    assert len(commands) >= 3
    for command in commands:
        assert __main__.main(shlex.split(command)) == 0, command


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"\bmake ([a-z-]+)", README)
    assert {"run", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_python_runs(short, capsys):
    code = blocks("python")
    assert code
    for block in code:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert "joint_accuracy" in capsys.readouterr().out


def test_links_and_pictures_are_there():
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", README)
    for target in targets:
        assert target.startswith("http") or (ROOT / target).exists(), target


def test_it_is_short():
    assert len(README.split()) <= 1500
