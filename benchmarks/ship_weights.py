"""Put a run's weights with their card into the package, and its log into the results.

python benchmarks/ship_weights.py runs/readme
"""

import sys
from pathlib import Path

from mnist_adder import read_run, runs
from mnist_adder.training import describe_row
from store import RESULTS, write_text

CARD = """\
# Model card: adder.safetensors

| | |
| --- | --- |
| what it does | reads one handwritten digit (28×28, as MNIST lays it out) and adds a number 0–9 |
| network | `AdderNet`, {parameters:,} parameters: two inputs, two outputs |
| data | `{dataset}`: its training images, numbers drawn afresh each epoch |
| recipe | `{recipe}`, {epochs} epochs, seed {seed} (the first, not the luckiest) |
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


def main(folder: Path) -> None:
    """Copy the weights; write the card and the log from what the run left."""
    run = read_run(folder)
    wanted = {"recipe": "adder", "dataset": "mnist", "split": "test"}
    if not wanted.items() <= run.metrics.items():
        sys.exit(f"{folder} is not a run of `adder` on all of MNIST: train one first")
    runs.write(runs.PRETRAINED, (folder / runs.WEIGHTS).read_bytes())
    write_text(runs.PRETRAINED.with_name("README.md"), CARD.format(**run.metrics))
    first_line = "device: {hardware} | torch {torch} | Python {python} | seed {seed}"
    epochs = len(run.history)
    rows = [{**row, "epoch": int(row["epoch"])} for row in run.history]
    lines = [describe_row(row, epochs, run.metrics["split"]) for row in rows]
    log = [first_line.format(**run.metrics), *lines[:2], "…", lines[-1]]
    write_text(RESULTS / "log.txt", "\n".join([*log, ""]))
    print(f"{runs.PRETRAINED}: joint accuracy {run.metrics['joint_accuracy']:.3%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
