"""Draws the README's picture of the number line that learns from 19 of the 100 pairs.

python benchmarks/number_line.py images/number_line.png
"""

import sys
from dataclasses import replace

import torch

from mnist_adder import RECIPES, fit, load_data, pairs_to_withhold, plots
from mnist_adder.data import Split


class Recorder:
    """Keeps the places after each epoch; `fit` calls it like a checkpoint."""

    def __init__(self) -> None:
        self.places = {"digit": [], "number": []}

    def restore(self, parts: dict) -> list:
        self.save(parts, [])
        return []

    def save(self, parts: dict, history: list) -> None:
        for places, now in zip(self.places.values(), parts["model"].adder.places(), strict=True):
            places.append(now.detach().cpu().clone())


def main(path: str) -> None:
    data = load_data("mnist")
    data = replace(data, train=Split(*(part[:12_000] for part in data.train)))
    recorder, recipe = Recorder(), replace(RECIPES["number-line"], epochs=6, batch_size=64)
    withheld = pairs_to_withhold(81, seed=0, keep_sums=False)
    fit(recipe, data, withheld=withheld, checkpoint=recorder)
    places = {name: torch.stack(rows) for name, rows in recorder.places.items()}
    plots.number_line(places, "mnist, 19 of 100 pairs shown").savefig(path, metadata={"Software": None})


if __name__ == "__main__":
    main(sys.argv[1])
