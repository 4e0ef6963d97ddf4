"""The checkpoint of a training: all that it needs to go on where it was interrupted."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch

from ..devices import rank
from ..errors import InputError
from .files import CHECKPOINT, CONFIG, FILES, write, write_json

# They decide only the last bits of the weights: a run may go on with others, with a warning.
MACHINE = ("device", "threads", "world_size", "deterministic")


class CheckpointFile:
    """Keeps a training in its run folder, see `training.fit`. Only rank 0 writes.

    A training that begins takes the place of a run that is there; with `resume`, it goes on from the checkpoint.
    The run's `config` is kept with it.
    """

    def __init__(self, folder: Path, config: dict[str, Any], *, resume: bool) -> None:
        self.folder, self.config, self.resume = folder, config, resume

    def restore(self, parts: dict[str, Any]) -> list[dict[str, float]]:
        """Load the parts and return the history; `InputError` for a checkpoint of a run with other settings."""
        if not self.resume:
            for name in FILES if rank() == 0 else ():
                (self.folder / name).unlink(missing_ok=True)
            self.save(parts, [])
            return []
        checkpoint = read_checkpoint(self.folder)
        begun = checkpoint["config"]
        self.config["fine_tuned"] = begun["fine_tuned"]
        changes = [name for name, value in self.config.items() if begun[name] != value]
        for name in (name for name in changes if name not in MACHINE):
            raise InputError(f"{self.folder} holds a run whose {name} differs: go on as it began")
        if changes:
            values = ", ".join(f"{name} {self.config[name]} for {begun[name]}" for name in changes)
            warnings.warn(f"going on with {values}: the weights will not be the same bit for bit", stacklevel=2)
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])
        return list(checkpoint["history"])

    def save(self, parts: dict[str, Any], history: list[dict[str, float]]) -> None:
        """Write the file anew: what `torch.save` makes, then 32 bytes of SHA-256; beside it, the config."""
        if rank() > 0:
            return
        content = io.BytesIO()
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({**states, "history": history, "config": self.config}, content)
        write_json(self.folder / CONFIG, self.config)
        write(self.folder / CHECKPOINT, content.getvalue() + hashlib.sha256(content.getvalue()).digest())


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The states, history and config of an unfinished run; no object is unpickled. `InputError` if it is damaged."""
    path = folder / CHECKPOINT
    if not path.exists():
        state = "a finished run" if (folder / CONFIG).exists() else "no run"
        raise InputError(f"{folder} holds {state}: there is nothing to go on with")
    content = path.read_bytes()
    if hashlib.sha256(content[:-32]).digest() != content[-32:]:
        raise InputError(f"{path} is damaged (its SHA-256 differs): begin again with --force")
    try:
        return torch.load(io.BytesIO(content[:-32]), map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch.load raises errors of many kinds for a file that is not its own
        raise InputError(f"{path} is no checkpoint of a run ({str(error).splitlines()[0]:.80})") from error
