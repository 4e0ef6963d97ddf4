"""The README's examples: each runs as printed, with no more than the bundled digits and one epoch put in.

A block under the comment ``<!-- long -->`` takes long and is only parsed.
"""

import ast
import re
import shlex
from pathlib import Path

import pytest

from mnist_adder import __main__, recipes, sources

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
if not README.is_file():
    pytest.skip("there is no README.md", allow_module_level=True)

BLOCK = re.compile(r"^(<!-- long -->\n+)?```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    pytest.param(bool(match[1]), match[3], id=f"{match[2]}-{place}")
    for place, match in enumerate(BLOCK.finditer(README.read_text()), 1)
]
BASH = [block for block in BLOCKS if block.id.startswith("bash")]
PYTHON = [block for block in BLOCKS if block.id.startswith("python")]
OTHERS = ("git", "cd", "source", "export", "jupyter")
OURS = re.compile(r"(?:mnist-adder|-m mnist_adder)(?: (.*))?$")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where all blocks run, one after the other: a later one may use what an earlier one left."""
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(autouse=True)
def short(folder, monkeypatch):
    """One epoch on the bundled digits, whatever the example asks for."""
    plain = sources.load_data
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sources, "load_data", lambda *_, validate=None: plain("digits", validate=validate))
    monkeypatch.setattr(recipes.Recipe, "length", lambda *_: 1)


def command_lines(block: str) -> list[str]:
    """Without comments, prompts and continued lines."""
    lines = block.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize(("long", "block"), BASH)
def test_commands(long, block):
    for line in command_lines(block):
        words = shlex.split(line, comments=True)
        while re.match(r"\w+=", words[0]):  # variables set for one command
            words.pop(0)
        ours = OURS.search(shlex.join(words))
        if ours:
            arguments = shlex.split(ours[1] or "")
            if long or words[0] == "torchrun":
                parse(arguments)
            else:
                run(arguments)
        elif words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word]
            for target in targets:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        elif words[0].endswith("python") and words[1].endswith(".py"):
            ast.parse((ROOT / words[1]).read_text())
        else:
            assert words[0] in OTHERS or set(words) & {"pip", "venv", "pytest"}, line


def parse(arguments: list[str]):
    try:
        return __main__.make_parser().parse_args(arguments)
    except SystemExit as stop:
        assert not stop.code, arguments  # --help and --version stop with 0


def run(arguments: list[str]) -> None:
    if arguments[:1] == ["train"]:
        arguments = [*arguments, "--data", "digits", "--epochs", "1"]
    try:
        assert __main__.main(arguments) == 0, arguments
    except SystemExit as stop:
        assert not stop.code, arguments


@pytest.mark.parametrize(("long", "block"), PYTHON)
def test_python(long, block):
    code = compile(block, "README.md", "exec")
    if not long:
        exec(code, {"__name__": "readme"})


def test_pictures_and_links_are_there():
    text = README.read_text()
    named = re.findall(r"\]\(([^)#\s]+)\)|(?:src|href)=\"([^\"#]+)\"", text)
    for target in {one or other for one, other in named}:
        assert target.startswith("http") or (ROOT / target).exists(), target
