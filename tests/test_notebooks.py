"""The notebooks: committed as they ran, and running from top to bottom without a network."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.name) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
)
FOLDER = re.compile(r"(?<![\w.:/])/(root|home|work|tmp|Users|content)/")


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def printed(output: nbformat.NotebookNode) -> str:
    data = output.get("data", {})
    return "\n".join([output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")])


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
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    """One epoch on the bundled digits, in a copy of the repository."""
    for part in ROOT.iterdir():
        if part.name not in ("notebooks", "runs", "data") and not part.name.startswith("."):
            (tmp_path / part.name).symlink_to(part)
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
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
