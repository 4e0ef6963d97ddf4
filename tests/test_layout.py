"""How the modules of the package import each other."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mnist_adder"
STORY = ("recipes", "data", "augment", "models", "losses", "training", "metrics", "evaluation")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(name: str, *, everywhere: bool) -> set[str]:
    """The package's modules that a module imports: everywhere, or only while it is itself imported."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    nodes, modules = [ast.parse(path.read_text())], set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef) and not everywhere:
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            home = ".".join([*parents, *([node.module] if node.module else [])])
            # "from .runs import folder" imports a module, "from .data import add" a name in one.
            modules |= {f"{home}.{a.name}" if f"{home}.{a.name}" in MODULES else home for a in node.names}
    return modules & set(MODULES)


def test_the_imports_are_read_right():
    assert {"mnist_adder.data", "mnist_adder.models"} <= imports("mnist_adder.published.networks", everywhere=False)
    assert imports("mnist_adder.augment", everywhere=True) == set()


@pytest.mark.parametrize("name", STORY)
def test_the_story_needs_no_other_folder(name):
    folders = {module.split(".")[1] for module in imports(f"mnist_adder.{name}", everywhere=True)}
    assert not folders & {"runs", "published", "demo"}


def test_no_module_imports_itself_through_others():
    graph = {name: imports(name, everywhere=False) for name in MODULES}
    TopologicalSorter(graph).prepare()  # a CycleError names the circle


@pytest.mark.parametrize("name", ["mnist_adder", "mnist_adder.published.recipes", "mnist_adder.checks"])
def test_no_torch_is_imported(name):
    program = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
