"""Kill trainings at random moments, and damage the files of a run and a picture.

    python benchmarks/torture.py [--quick] [--kills 100] [--damages 10000] [--seed 0]

A training that was killed must end as one that was not. Damaged files may be refused in one line,
and where a checksum guards them they must be. It ends with 1 if anything gave way.
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

from mnist_adder import InputError, load_data, load_pretrained, predict, read_run
from mnist_adder.__main__ import main as command
from mnist_adder.runs import CHECKED, CHECKPOINT, CHECKSUMS, read_checkpoint

TRAIN = ("train", "--data", "digits", "--device", "cpu", "--recipe", "speedrun", "--epochs", "6")
SAME = ("config.json", "model.safetensors")  # the history and the metrics hold times
HANG = 120  # seconds


def quietly(*arguments: str) -> None:
    """Run a command without its output, and end the process with its status."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        sys.exit(command(list(arguments)))


def start(*arguments: str | Path) -> multiprocessing.Process:
    """Start a command in a process of its own, which already has torch."""
    texts = [str(argument) for argument in arguments]
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=quietly, args=texts)
    process.start()
    return process


def begun(folder: Path, name: str) -> bool:
    """Return whether a file of this name is there and has content."""
    path = folder / name
    return path.is_file() and path.stat().st_size > 0


def killed(folder: Path, first: str, moment: float) -> bool:
    """Kill a training `moment` seconds after `first` has content; return whether it can go on."""
    process = start(*TRAIN, "--out", folder)
    while process.is_alive() and not begun(folder, first):
        time.sleep(0.001)
    process.join(moment)
    process.kill()
    process.join()
    return begun(folder, CHECKPOINT)


def content_of(run: Path) -> tuple[list[str], list[bytes]]:
    """Return what must be the same in two runs of one training: the names, and some files."""
    names = sorted(path.name for path in run.iterdir())
    return names, [(run / name).read_bytes() for name in SAME if name in names]


def kill_trainings(count: int, draw: random.Random, place: Path) -> list[str]:
    """Kill trainings, half while they train and half while they are saved; let them go on."""
    whole = place / "run"
    seconds = sum(row["seconds"] for row in read_run(whole).history)
    failures = []
    done = 0
    while done < count:
        folder = place / "killed"
        shutil.rmtree(folder, ignore_errors=True)
        first = CHECKED[0] if done % 2 else CHECKPOINT
        moment = draw.uniform(0, 2 * seconds)
        if not killed(folder, first, moment):
            continue
        done += 1
        process = start("train", "--resume", folder)
        process.join(HANG)
        same = content_of(folder) == content_of(whole)
        if process.exitcode != 0 or not same:
            when = f"kill {moment:.3f} s after {first}"
            failures.append(f"{when}: exit status {process.exitcode}, same files: {same}")
    return failures


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return a file with a bit turned, bytes replaced, a part cut out or doubled, or no end."""
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice([1, 4, 60]))
    part = content[start:end]
    bit = 1 << draw.randrange(8)
    turned = bytes([part[0] ^ bit]) + part[1:]
    other = draw.randbytes(len(part))
    rest = content[end:]
    ends = [
        turned + rest,
        other + rest,
        rest,
        part + part + rest,
        b"",
    ]
    return content[:start] + draw.choice(ends)


def make_readers(place: Path) -> dict[Path, tuple[Callable[[], object], bool]]:
    """Return a run's files and a picture: what reads each, and must all damage be noticed?"""
    run = place / "run"
    unfinished = place / "unfinished"
    start(*TRAIN, "--out", run).join()
    killed(unfinished, CHECKPOINT, 0.0)
    picture = place / "digit.png"
    image = load_data("digits").test.images[3]
    page = Image.fromarray(255 - image.numpy())
    page.resize((112, 112)).save(picture)
    model = load_pretrained()
    readers = {run / name: (lambda: read_run(run), True) for name in CHECKED}
    readers[run / CHECKSUMS] = (lambda: read_run(run), False)
    readers[unfinished / CHECKPOINT] = (lambda: read_checkpoint(unfinished), True)
    readers[picture] = (lambda: predict(model, picture, 3), False)
    return readers


def damage_files(count: int, first: int, place: Path) -> list[str]:
    """Damage files; return each that gave a wrong answer or another error than `InputError`."""
    readers = make_readers(place)
    whole = {path: path.read_bytes() for path in readers}
    refused = dict.fromkeys(readers, 0)
    failures = []
    for seed in range(first, first + count):
        path = list(readers)[seed % len(readers)]
        reader, must_notice = readers[path]
        content = damaged(whole[path], random.Random(seed))
        path.write_bytes(content)
        signal.alarm(HANG)  # a hang ends the process
        try:
            reader()
            if must_notice and content != whole[path]:
                failures.append(f"{path.name}, seed {seed}: not noticed")
        except InputError as error:
            refused[path] += 1
            if "\n" in str(error):
                failures.append(f"{path.name}, seed {seed}: more than a line: {error}")
        except Exception as error:
            failures.append(f"{path.name}, seed {seed}: {error!r}")
        signal.alarm(0)
        path.write_bytes(whole[path])
    counts = [f"{path.name} {times}" for path, times in refused.items()]
    print("refused:", ", ".join(counts))
    return failures


def main() -> int:
    """Kill trainings and damage files; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--damages", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="4 kills and 100 damages")
    options = parser.parse_args()
    kills = 4 if options.quick else options.kills
    damages = 100 if options.quick else options.damages
    warnings.simplefilter("ignore")  # of a network that learned little
    multiprocessing.get_context("forkserver").set_forkserver_preload(["mnist_adder.__main__"])
    with tempfile.TemporaryDirectory() as folder:
        failures = damage_files(damages, options.seed, Path(folder))
        print(f"{damages} damaged files from seed {options.seed}: {len(failures)} failures")
        draw = random.Random(options.seed)
        failures += kill_trainings(kills, draw, Path(folder))
    print(f"{kills} kills; {len(failures)} failures in all", *failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
