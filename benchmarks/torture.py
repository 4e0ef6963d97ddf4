"""Kills trainings at random moments, and damages every kind of file that is read; ends with 1 if anything gave way.

python benchmarks/torture.py [--kills 30] [--mutations 2000] [--seed 0]
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from PIL import Image

from mnist_adder import InputError, load_data, predict, read_run
from mnist_adder.__main__ import main as command
from mnist_adder.runs.files import CHECKPOINT, CONFIG, HISTORY, METRICS, SUMS, WEIGHTS, read_checkpoint
from mnist_adder.sources import MNIST_SHA256

TRAIN = ["train", "--data", "digits", "--device", "cpu", "--epochs", "4", "--recipe", "cascade"]
SAME = (WEIGHTS, HISTORY, CONFIG)  # the metrics have times
HANG = 60  # seconds


def quiet(*arguments: str) -> None:
    """A command in a process of its own, without its output."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        sys.exit(command([*map(str, arguments)]))


def start(*arguments: str) -> multiprocessing.Process:
    process = multiprocessing.get_context("forkserver").Process(target=quiet, args=arguments)
    process.start()
    return process


def kills(count: int, draw: random.Random, place: Path) -> list[str]:
    """Each of `count` trainings is killed once, goes on, and must leave what an uninterrupted one leaves."""
    whole, failures, done = place / "whole", [], 0
    for _ in range(2):  # the first one also starts what later ones find started
        started = time.monotonic()
        start(*TRAIN, "--out", whole, "--force").join()
        seconds = time.monotonic() - started
    while done < count:
        folder = place / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        process, moment = start(*TRAIN, "--out", folder), draw.uniform(0, seconds)
        process.join(moment)
        process.kill()
        process.join()
        if process.exitcode == 0 or not (folder / CHECKPOINT).exists():
            continue  # after the run was saved, or before the training began: there was nothing to lose
        done += 1
        resumed = start("train", "--resume", folder)
        resumed.join(HANG)
        same = all((folder / name).is_file() for name in SAME) and all(
            (folder / name).read_bytes() == (whole / name).read_bytes() for name in SAME
        )
        if resumed.exitcode != 0 or not same or (folder / CHECKPOINT).exists():
            failures.append(f"kill after {moment:.3f} s: exit {resumed.exitcode}, same files: {same}")
    return failures


def mutated(content: bytes, draw: random.Random) -> bytes:
    """A bit turned, bytes replaced, a part cut out or doubled, or the end cut off."""
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice([1, 4, 60]))
    kind = draw.randrange(5)
    if kind == 0:
        part = bytes([content[start] ^ 1 << draw.randrange(8)])
        end = start + 1
    elif kind == 1:
        part = draw.randbytes(end - start)
    elif kind == 2:
        part = b""
    elif kind == 3:
        part = 2 * content[start:end]
    else:
        part, end = b"", len(content)
    return content[:start] + part + content[end:]


def mutations(count: int, first: int, place: Path) -> list[str]:
    """Files of every kind, damaged: none may do more than be refused in a line, and some must be refused."""
    run, begun = place / "run", place / "begun"
    start(*TRAIN, "--out", run).join()
    process = start(*TRAIN, "--out", begun)
    while not (begun / CHECKPOINT).exists():
        time.sleep(0.001)
    process.kill()
    process.join()
    image = load_data("digits").test.images[3]
    Image.fromarray(255 - image.numpy()).resize((112, 112)).save(place / "digit.png")
    model = read_run(run).model
    readers: dict[Path, tuple[Callable[[], object], bool]] = {  # and whether all damage must be noticed
        **{run / name: (lambda: read_run(run), True) for name in (CONFIG, HISTORY, METRICS, WEIGHTS)},
        run / SUMS: (lambda: read_run(run), False),
        begun / CHECKPOINT: (lambda: read_checkpoint(begun), True),
        place / "digit.png": (lambda: predict(model, place / "digit.png", 3), False),
    }
    mnist = Path(os.environ.get("MNIST_ADDER_DATA") or "data").absolute() / "MNIST" / "raw"
    if all((mnist / name).is_file() for name in MNIST_SHA256):
        raw = place / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for name in MNIST_SHA256:
            if name.startswith("t10k"):
                shutil.copy(mnist / name, raw)
                readers[raw / name] = (lambda: load_data("mnist", place), True)
            else:
                (raw / name).symlink_to(mnist / name)
    else:
        print("no MNIST here: IDX files are left out")
    whole = {path: path.read_bytes() for path in readers}
    warnings.simplefilter("ignore")  # of a network that learned little
    failures, refused = [], dict.fromkeys(readers, 0)
    for seed in range(first, first + count):
        path = list(readers)[seed % len(readers)]
        reader, must = readers[path]
        damaged = mutated(whole[path], random.Random(seed))
        path.chmod(0o644)
        path.write_bytes(damaged)
        signal.alarm(HANG)  # a hang ends the process
        try:
            reader()
            if must and damaged != whole[path]:
                failures.append(f"{path.name}, seed {seed}: not noticed")
        except InputError as error:
            refused[path] += 1
            if "\n" in str(error):
                failures.append(f"{path.name}, seed {seed}: more than a line: {error}")
        except Exception as error:
            failures.append(f"{path.name}, seed {seed}: {error!r}")
        signal.alarm(0)
        path.write_bytes(whole[path])
    print("refused:", ", ".join(f"{path.name} {times}" for path, times in refused.items()))
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--mutations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    multiprocessing.get_context("forkserver").set_forkserver_preload(["mnist_adder.runs.folder"])
    with tempfile.TemporaryDirectory() as folder:
        failures = mutations(options.mutations, options.seed, Path(folder))
        print(f"{options.mutations} mutations from seed {options.seed}: {len(failures)} failures")
        failures += kills(options.kills, random.Random(options.seed), Path(folder))
    print(f"{options.kills} kills, all told {len(failures)} failures", *failures, sep="\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
