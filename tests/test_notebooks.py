"""The notebooks: committed as they ran, and running from top to bottom without a network."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOTEBOOKS = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
FOLDER = re.compile(r"(?<![\w.:/])/(root|home|work|tmp|Users|content)/")
EPOCHS = "Epochs(mnist=10, digits=80)"  # of the main notebook; colab.sh replaces it, too
STORY = (
    "AdderDataset",
    "DigitCNN",
    "AdderMLP",
    "TwoInputNet.forward",
    "AdderNet",
    "total_loss",
    "Training.train_step",
    "Training.train_epoch",
)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def printed(output: nbformat.NotebookNode) -> str:
    data = output.get("data", {})
    return "\n".join([output.get("text", ""), data.get("text/plain", "")])


@NOTEBOOKS
def test_committed_outputs(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})
        assert not FOLDER.search(printed(output)), printed(output)


@NOTEBOOKS
def test_first_cell_is_the_same_and_short(path):
    first = code_cells(path)[0].source
    assert first == code_cells(PATHS[0])[0].source
    assert len(first.splitlines()) <= 6


def test_main_notebook_shows_the_story_s_code():
    """Each piece is shown, and the cell after it runs something."""
    cells = code_cells(ROOT / "notebooks" / "MNIST_Adder.ipynb")
    shown = set()
    for cell in cells:
        for things in re.findall(r"^show_source\((.*)\)$", cell.source, re.MULTILINE):
            shown.update(things.split(", "))
    assert shown.issuperset(STORY)


@NOTEBOOKS
def test_the_sources_that_it_shows_are_the_package_s(path):
    """A change of the package makes the saved outputs old: run the notebook again."""
    names = {}
    for cell in code_cells(path):
        for imports in re.findall(r"^from mnist_adder\b.*(?:[^(]$|\([^)]*\))", cell.source, re.M):
            exec(imports, names)
        for shown in re.findall(r"^show_source\(.*\)$", cell.source, re.M):
            source = eval(shown, names).data
            assert printed(cell.outputs[0]).strip() == source.strip(), shown


def test_they_run_from_top_to_bottom(tmp_path, monkeypatch):
    """One epoch on the bundled digits, in a copy of the repository and one kernel for all."""
    (tmp_path / "mnist_adder").symlink_to(ROOT / "mnist_adder")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    environment = {
        "MNIST_ADDER_EPOCHS": "1",
        "MNIST_ADDER_DATA": str(tmp_path / "none"),
        # No way out, whatever the machine: MNIST cannot be downloaded, and says so at once.
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
        "no_proxy": "",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    everything = nbformat.v4.new_notebook()
    for path in PATHS:
        assert (EPOCHS in path.read_text()) == (path.stem == "MNIST_Adder")
        afresh = f"%reset -f\n%cd -q {folder}\nprint('{path.name}')"
        cells = nbformat.read(path, as_version=4).cells
        for cell in cells:
            cell.source = cell.source.replace(EPOCHS, "1")
        everything.cells += [nbformat.v4.new_code_cell(afresh), *cells]
    NotebookClient(everything, timeout=300, kernel_name="python3").execute()
