"""Shared by all tests: small data of real digits, no download, and no figures.

The first of pytest-xdist's processes runs no test: it should not have to import the package.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

# The tests run in a process for each core; more threads would only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"  # here, and in the processes that tests start
# What the tests start finds the package in any folder.
PATHS = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, PATHS))

settings.register_profile("few", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("few")


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """An unreachable network, without its time-outs."""

    def refuse(mnist):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", refuse)


@pytest.fixture(scope="session", autouse=True)
def no_figures():
    """Drawing takes most of a small run's time, so only the tests that ask for it do it."""
    from mnist_adder import plots

    drawing = plots.run_figures
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "run_figures", lambda *_: {})
        yield drawing


@pytest.fixture
def figures(no_figures, monkeypatch):
    """Let a test draw."""
    monkeypatch.setattr("mnist_adder.plots.run_figures", no_figures)


@pytest.fixture(scope="session")
def digits():
    """The 1,797 bundled digits."""
    from mnist_adder import load_data

    return load_data("digits")


@pytest.fixture(scope="session")
def few(digits):
    """240 training and 60 test images, for what need not learn."""
    from helpers import first

    return first(digits, 240, 60)


@pytest.fixture(scope="session")
def quick():
    """Two epochs of our recipe, four steps each on `few`."""
    from mnist_adder import RECIPES

    return replace(RECIPES["adder"], epochs=2, batch_size=60)


@pytest.fixture(params=["adder", "number-line", "exact-adder", "speedrun"])
def network(request):
    """Each network of the recipes in turn, with fresh weights."""
    import torch

    from mnist_adder import RECIPES

    torch.manual_seed(0)
    return RECIPES[request.param].model()


@pytest.fixture
def mnist_dir() -> Path:
    """The folder of the real MNIST."""
    from helpers import HAS_MNIST, MNIST_DIR

    if not HAS_MNIST:
        pytest.skip("no real MNIST in the folder that MNIST_ADDER_DATA names, or in data/")
    return MNIST_DIR
