"""Measures the learned lines of `number-line` runs: are the places in order, and are they equally spaced?

python benchmarks/lines.py RUN [RUN …]   # writes results/lines.csv
"""

import sys
from pathlib import Path

import torch

from mnist_adder.runs import files, folder

RESULTS = Path(__file__).parent / "results"


def measure(run: folder.Run) -> dict[str, object]:
    """The order and the spacing of a run's places; equal steps of 1 add exactly."""
    steps = torch.stack([places.detach().diff() for places in run.model.adder.places()])  # [2, 9]
    return {
        "seed": run.config["seed"],
        "epochs": run.metrics["epochs"],
        "withheld": len(run.metrics["withheld"]),
        "in_order": bool((steps > 0).all()),
        "largest_error_of_a_step": round((steps - 1).abs().max().item(), 4),
    }


def main(paths: list[str]) -> None:
    rows = sorted((measure(folder.read_run(path)) for path in paths), key=lambda row: (row["withheld"], row["seed"]))
    files.write_csv(RESULTS / "lines.csv", rows)
    print((RESULTS / "lines.csv").read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
