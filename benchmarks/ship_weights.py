"""Puts a run's weights into the package, with a model card written from what the run left.

python benchmarks/ship_weights.py RUN
"""

import sys
from pathlib import Path

from mnist_adder.runs import files, folder

CARD = """\
# Model card: adder.safetensors

| | |
| --- | --- |
| what it does | reads one handwritten digit (28×28, as MNIST lays it out) and adds a number 0–9: two inputs, two outputs |
| network | `AdderNet`, {parameters:,} parameters |
| data | `{dataset}`: trained on its training images, numbers drawn afresh each epoch |
| recipe | `{recipe}`, {epochs} epochs, seed {seed} (the first, not the luckiest) |
| made by | `{command}`, then `make weights` |
| trained on | {hardware}, PyTorch {torch} |

On the {split} split, every image with all ten numbers:

| | |
| --- | --- |
| digit accuracy | {digit_accuracy:.3%} |
| sum accuracy | {sum_accuracy:.3%} |
| joint accuracy (both right) | {joint_accuracy:.3%} |

Limits: one digit per picture, Western Arabic numerals, no way to say "this is no digit": whatever has ink gets an
answer. Probabilities are not calibrated on handwriting from outside MNIST. Ruled or squared paper is read as ink.
"""


def main(path: Path) -> None:
    run = folder.read_run(path)
    command = "python -m mnist_adder train --data {dataset} --recipe {recipe} --seed {seed}"
    if run.config["recipe"] != "adder" or run.metrics["split"] != "test":
        sys.exit(f"{path} is not a run of the adder recipe on the whole training set: train one first")
    files.write(folder.PRETRAINED, (path / files.WEIGHTS).read_bytes())
    card = CARD.format(**run.metrics, command=command.format(**run.metrics))
    files.write(folder.PRETRAINED.with_name("README.md"), card)
    print(f"{folder.PRETRAINED}: joint {run.metrics['joint_accuracy']:.3%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
