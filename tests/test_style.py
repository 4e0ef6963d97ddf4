"""Plain code, where the linter has no rule for it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("mnist_adder", "examples", "benchmarks")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_assignment_a_statement(path):
    text = path.read_text(encoding="utf-8")
    assert "fmt: skip" not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            for target in node.targets:
                assert not isinstance(target, ast.Tuple) or len(target.elts) <= 2, node.lineno
