"""The output of a training: one line for each epoch, and on a terminal a bar while it lasts."""

import sys

from tqdm import tqdm

from .data import Loader


class Progress:
    """Prints how a training of so many epochs goes; `split` is the name of what is tested on."""

    def __init__(self, epochs: int, split: str, *, quiet: bool = False) -> None:
        self.epochs, self.split, self.quiet = epochs, split, quiet

    def track(self, loader: Loader) -> tqdm:
        """The loader's batches, with a bar where standard output is a terminal."""
        hidden = self.quiet or sys.stdout is None or not sys.stdout.isatty()
        title = f"epoch {loader.epoch:2}/{self.epochs}"
        return tqdm(loader, title, disable=hidden, file=sys.stdout, dynamic_ncols=True, leave=False)

    def report(self, row: dict[str, float], seconds: float) -> None:
        """Print an epoch's row of the history, and how long its training took."""
        line = f"epoch {row['epoch']:2}/{self.epochs} {seconds:5.1f} s"
        for name, prefix in (("train", "train"), (self.split, "test")):
            line += " | {} nll {:.4f}, ce {:.4f}".format(name, *(row[f"{prefix}_{p}_loss"] for p in ("digit", "sum")))
            line += "".join(f", {p} {row[f'{prefix}_{p}_accuracy']:.2%}" for p in ("digit", "sum", "joint"))
        if not self.quiet:
            print(line, flush=True)
