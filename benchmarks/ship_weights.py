"""Train the package's weights and write their card; put the log of a run of `adder` into results/.

    python benchmarks/ship_weights.py runs/readme

A second network, trained without a fold, tells the thresholds of the evidence. What depends on the
weights is to be made anew after it: EVIDENCE in prediction.py and in page.js (from what is printed
here), results/handwriting.csv, page/index.html, images/page.png.
"""

import sys
from pathlib import Path

import handwriting
from mnist_adder import Run, load_data, read_run, runs
from mnist_adder.files import write
from mnist_adder.training import describe_row
from store import RESULTS, run_program

import outliers  # isort: skip  (store makes them found)
import published  # isort: skip

CARD = """\
# Model card: adder.safetensors

| | |
| --- | --- |
| what it does | reads one handwritten digit (28×28, as MNIST lays it out) and adds a number 0–9 |
| network | `WideNet`, {parameters:,} parameters: two inputs, two outputs |
| data | `{dataset}`: its training images, numbers drawn afresh each epoch |
| recipe | examples/outliers.py, {epochs} epochs, seed {seed} |
| made by | `make weights` |
| trained on | {hardware}, PyTorch {torch} |

On the {split} split, every image with all ten numbers:

| | |
| --- | --- |
| digit accuracy | {digit_accuracy:.3%} |
| sum accuracy | {sum_accuracy:.3%} |
| joint accuracy (both right) | {joint_accuracy:.3%} |

Limits: one digit in a picture, Western Arabic numerals. `predict` says where a picture does not
look like a digit, but not always.
"""


def trained(fold: int | None) -> Run:
    """Return the package's network, trained on all of MNIST's training set or without a fold."""
    folder = Path("runs/weights" if fold is None else f"runs/weights-without-fold-{fold}")
    data = load_data("mnist", validate=fold)
    training = outliers.OutlierTraining(outliers.RECIPE, data, seed=10)
    return published.finished_run(folder, training, quiet=False)


def main() -> None:
    """Train what is not yet trained, and write the weights, their card and the log."""
    folder = Path(sys.argv[1])
    logged = read_run(folder)
    wanted = {"recipe": "adder", "dataset": "mnist", "split": "test"}
    if not wanted.items() <= logged.metrics.items():
        sys.exit(f"{folder} is not a run of `adder` on all of MNIST: train one first")
    first_line = "device: {hardware} | torch {torch} | Python {python} | seed {seed}"
    epochs = len(logged.history)
    lines = [describe_row(row, epochs, logged.metrics["split"]) for row in logged.history]
    log = [first_line.format(**logged.metrics), *lines[:2], "…", lines[-1]]
    write(RESULTS / "log.txt", "\n".join([*log, ""]).encode())

    shipped = trained(fold=None)
    write(runs.PRETRAINED, (shipped.folder / runs.WEIGHTS).read_bytes())
    write(runs.PRETRAINED.with_name("README.md"), CARD.format(**shipped.metrics).encode())
    print(f"{runs.PRETRAINED}: joint accuracy {shipped.metrics['joint_accuracy']:.3%}")

    held_out = load_data("mnist", validate=0).test
    handwriting.calibrate(trained(fold=0).model, held_out.images)


if __name__ == "__main__":
    run_program(main)
