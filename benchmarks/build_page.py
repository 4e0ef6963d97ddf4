"""Write page/index.html: our network, and three that were trained with 19 of the hundred pairs.

python benchmarks/build_page.py           with the three networks' weights in page/
python benchmarks/build_page.py --train   first train the three anew on MNIST
"""

import argparse
from pathlib import Path

import safetensors.torch
from torch import nn

from mnist_adder import RECIPES, fit, load_data, load_pretrained, pairs_to_withhold
from mnist_adder.page import write_page

FOLDER = Path(__file__).parents[1] / "page"
NETWORKS = ("adder", "number-line", "exact-adder")  # recipes
SEED = 10
WITHHELD = pairs_to_withhold(81, SEED, keep_sums=False)


def train() -> None:
    """Train the three networks and keep their weights."""
    data = load_data("mnist")
    for name in NETWORKS:
        model = fit(RECIPES[name], data, seed=SEED, withheld=WITHHELD).model
        model.bfloat16()  # half the space, and nearly always the same answers
        weights = {key: tensor.cpu().contiguous() for key, tensor in model.state_dict().items()}
        safetensors.torch.save_file(weights, FOLDER / f"{name}.safetensors")


def read(name: str) -> nn.Module:
    """Return one of the three networks with its weights."""
    network = RECIPES[name].model()
    network.load_state_dict(safetensors.torch.load_file(FOLDER / f"{name}.safetensors"))
    return network


def build(path: Path = FOLDER / "index.html") -> None:
    """Write the page."""
    write_page(
        path, load_pretrained(), compared=[read(name) for name in NETWORKS], withheld=WITHHELD
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true", help="train the three networks anew")
    if parser.parse_args().train:
        train()
    build()
