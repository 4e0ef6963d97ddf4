"""Writes the measured figures into the pages, or checks that they stand there.

    python benchmarks/pages.py          # writes
    python benchmarks/pages.py --check  # says what differs, and ends with exit status 1; it needs MNIST

A part of a page between ``<!--NAME-->`` and ``<!--end-->`` is what the function NAME returns. All of them read
the files in results/ only, which the commands that measured left there.
"""

import csv
import json
import re
import sys
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev

import nbformat

import search
import trainings
from mnist_adder.checks import InputError
from mnist_adder.evaluation import evaluate
from mnist_adder.published import comparison
from mnist_adder.runs import files
from mnist_adder.runs.folder import load_pretrained
from mnist_adder.sources import load_data

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
CARD = ROOT / "mnist_adder/weights/README.md"
PART = re.compile(r"<!--(\w+)-->(.*?)<!--end-->", re.DOTALL)
FIGURE = re.compile(r"\d+\.\d+ ?(?:%|s\b|ms\b|points\b|MB\b|×)")


def runs(withheld: int = 0) -> list[dict]:
    """The trainings with so many pairs withheld."""
    return [row for row in trainings.rows() if row["withheld"] == withheld]


def mean(values: list[float], digits: int = 2) -> str:
    """With the standard deviation, where there are several values."""
    return f"{fmean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def recipes() -> str:
    """The README's table: our three recipes beside the best published figures."""
    ours = [run for run in runs() if run["recipe"] in ("adder", "number-line", "speedrun")]
    lines = ["| | parameters | epochs | seconds | digit % | sum % | both (joint) % | seeds |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for name, group in groupby(ours, lambda run: run["recipe"]):
        group = list(group)
        cells = [f"`{name}`", f"{group[0]['parameters']:,}", str(group[0]["epochs"])]
        cells += [mean([run["train_seconds"] for run in group], 1 if name == "speedrun" else 0)]
        cells += [mean([100 * run[f"{part}_accuracy"] for run in group]) for part in ("digit", "sum", "joint")]
        lines.append(f"| {' | '.join(cells)} | {named([run['seed'] for run in group])} |")
    for system, name, parameters, epochs, digit, sum, *_ in (comparison.PUBLISHED[0], comparison.PUBLISHED[3]):
        lines.append(
            f"| published {system} (`{name}`) | {parameters} | {epochs} | — | {digit} | {sum} | — | by its author |"
        )
    hardware = "; ".join(sorted({f"{run['hardware']}, torch {run['torch']}" for run in ours}))
    return (
        "\n".join(lines)
        + f"\n\nMean ± standard deviation over the seeds; {hardware}; its speed changes from hour to hour."
    )


def headline() -> str:
    """The three numbers on the README's first screen."""
    adder = [run for run in runs() if run["recipe"] == "adder"]
    line, mlp = (
        [100 * run["withheld_sum_accuracy"] for run in runs(81) if run["recipe"] == recipe]
        for recipe in ("number-line", "adder")
    )
    bench = json.loads((RESULTS / "results.json").read_text())["sections"]["time-to-headline"]
    passed = "above" if bench["reached"] else "not above"
    return (
        f"* **{fmean(100 * run['joint_accuracy'] for run in adder):.2f} %** of the test's (image, number) pairs get both "
        f"answers right, with {adder[0]['parameters']:,} parameters: `adder`,\n  the recipe that `make run` trains.\n"
        f"* **{bench['rows'][0]['median']:.1f} s** of training on two CPU cores bring another network, `speedrun`, {passed} the best "
        f"published accuracies:\n  1/{bench['ratio']:.0f} of a published system's time.\n"
        f"* **{fmean(line):.1f} %** of the sums are right for the 81 of 100 (digit, number) pairs that the number line never met "
        f"in training\n  ({len(line)} seeds). The usual MLP has {fmean(mlp):.1f} % right."
    )


def speed() -> str:
    """The README's lines on the time to the headline."""
    section = json.loads((RESULTS / "results.json").read_text())["sections"]["time-to-headline"]
    ours, theirs = (row["median"] for row in section["rows"][:2])
    digit, sum = (row["values"] for row in section["rows"] if row["name"].startswith(("ours: digit", "ours: sum")))
    (reached,) = (note for note in section["notes"] if note.startswith("System A, as trained here"))
    digit_reached, sum_reached, _ = (float(share) for share in re.findall(r"([\d.]+) %", reached))
    low = [fmean(values) - 2 * stdev(values) / len(values) ** 0.5 for values in (digit, sum)]
    return (
        f"`speedrun` takes **{ours:.1f} s**, and published system A {theirs:.0f} s in the same run of [the "
        f"bench](benchmarks/results/results.md)\n({section['machine'].partition(',')[0]}), where A reached "
        f"{digit_reached:.2f} % and {sum_reached:.2f} %. Mean of our {len(digit)} seeds: digit {fmean(digit):.2f} %, sum\n"
        f"{fmean(sum):.2f} %; less two standard errors {low[0]:.3f} % and {low[1]:.3f} %, where the best published are "
        f"{comparison.PUBLISHED[3][4]} %\nand {comparison.PUBLISHED[3][5]} %."
    )


def gpu() -> str:
    """The README's figures of a GPU."""
    section = json.loads((RESULTS / "results.json").read_text())["sections"]["gpu"]
    (speedrun, system_a, *_), (adder, joint) = section["rows"], section["rows"][-2:]
    return (
        f"On an {section['machine'].partition(' (')[0]}, where the first notebook ran, `adder` takes {adder['median']:.0f} s "
        f"(joint accuracy {fmean(joint['values']):.2f} %, {len(joint['values'])} seeds), `speedrun`\n"
        f"{speedrun['median']:.1f} s and system A {system_a['median']:.0f} s. Such small operations take longer to start than to do."
    )


def log() -> str:
    """The first three and the last two epochs of a training's log."""
    lines = (RESULTS / "log.txt").read_text().splitlines()
    return "\n".join(["```", *lines[:4], "…", *lines[4:], "```"])


def by_count() -> dict[int, dict[str, list[dict]]]:
    """The trainings with pairs withheld: for each number of pairs, and each recipe."""
    counts = sorted({row["withheld"] for row in trainings.rows()} - {0})
    return {
        count: {name: list(group) for name, group in groupby(runs(count), lambda run: run["recipe"])}
        for count in counts
    }


def withheld() -> str:
    """The table of ``make withheld``: the right sums of pairs that training never met."""
    titles = "withheld sums right, %", "the least", "shown sums right, %", "lines in order", "largest error of a step"
    lines = [f"| withheld | recipe | epochs | seeds | {' | '.join(titles)} |"]
    lines += ["| ---: | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |"]
    for count, recipes in by_count().items():
        for name, group in recipes.items():
            missed, met = ([100 * run[f"{part}_sum_accuracy"] for run in group] for part in ("withheld", "shown"))
            errors = [run["largest_error_of_a_step"] for run in group if "in_order" in run]
            cells = [f"{count} | `{name}` | {group[0]['epochs']} | {named([run['seed'] for run in group])}"]
            cells += [f"{share:.2f}" for share in (fmean(missed), min(missed), fmean(met))]
            ordered = sum(run.get("in_order") == "True" for run in group)
            cells += [f"{ordered} of {len(group)}", f"{max(errors):.3f}"] if errors else ["", ""]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def named(seeds: list[int]) -> str:
    """Seeds, with a dash where none is left out."""
    together = len(seeds) > 1 and seeds[-1] - seeds[0] == len(seeds) - 1
    return f"{seeds[0]}–{seeds[-1]}" if together else ", ".join(map(str, seeds))


def all_recipes() -> str:
    """The table of ``make comparison``."""
    return comparison.markdown(runs()).strip()


def adds() -> str:
    """The README's short form of that table: means over the seeds."""
    counts = by_count()
    lines = [f"| pairs withheld | {' | '.join(map(str, counts))} |", "| --- |" + " ---: |" * len(counts)]
    for recipe, title in (("number-line", "number line"), ("adder", "MLP")):
        shares = [[run["withheld_sum_accuracy"] for run in recipes.get(recipe, ())] for recipes in counts.values()]
        cells = [f"{100 * fmean(values):.1f} %" if values else "not measured" for values in shares]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def handwriting() -> str:
    """The table of ``handwriting.py``, and its sentence on fonts."""
    with (RESULTS / "handwriting.csv").open() as file:
        rows = [{"as": row["as"], "right": int(row["right"]), "of": int(row["of"])} for row in csv.DictReader(file)]
    fonts = [row for row in rows if row["as"].startswith("font ")]
    lines = ["| as | digits right |", "| --- | ---: |"]
    lines += [f"| {row['as']} | {row['right'] / row['of']:.2%} |" for row in rows if row not in fonts]
    right, total = (sum(row[key] for row in fonts) for key in ("right", "of"))
    wrong = [f"{row['as'].removeprefix('font ')} {row['right']}" for row in fonts if row["right"] < row["of"]]
    return "\n".join(lines) + (
        f"\n\nThe digits of {len(fonts)} fonts that imitate handwriting, at three sizes: {right} of {total} right;\n"
        f"fonts with a mistake, of {fonts[0]['of']}: {', '.join(wrong)}."
    )


def searched(name: str) -> Callable[[], str]:
    """The table of a search."""

    def table() -> str:
        results = {}
        for line in (RESULTS / f"search-{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            results.setdefault(row["candidate"], []).append(row)
        return search.markdown(results, "").strip()

    return table


PARTS = {
    "headline": headline,
    "recipes": recipes,
    "all_recipes": all_recipes,
    "speed": speed,
    "gpu": gpu,
    "log": log,
    "withheld": withheld,
    "adds": adds,
    "handwriting": handwriting,
}
PARTS |= {
    f"search_{name}": searched(name)
    for name in ("convolution", "settings", "recipe", "scores", "speedrun", "quick6", "quick12")
}


def card() -> list[str]:
    """The accuracies of the weights in the package, measured again, in the order of their card."""
    metrics = evaluate(load_pretrained(), load_data("mnist").test).metrics
    return [f"{metrics[f'{part}_accuracy']:.3%}" for part in ("digit", "sum", "joint")]


def check(pages: dict[Path, str]) -> list[str]:
    """What differs from the measurements, and every figure that nothing here has written."""
    wrong = []
    for page, written in pages.items():
        text = page.read_text()
        pairs = zip(PART.finditer(text), PART.finditer(written), strict=True)
        wrong += [f"{page.name}: the part {old[1]} is not as measured" for old, new in pairs if old[0] != new[0]]
        wrong += [f"{page.name}: {figure} stands outside of all parts" for figure in FIGURE.findall(PART.sub("", text))]
    if re.findall(r"[\d.]+%", CARD.read_text()) != card():
        wrong.append(f"{CARD.name}, of the weights: the accuracies are not {', '.join(card())}")
    published = {f"{value} %" for row in comparison.PUBLISHED for value in row[4:7]}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        prose = "\n".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown")
        others = [figure for figure in FIGURE.findall(prose) if figure not in published]
        wrong += [f"{path.name}: {figure} stands in the prose, but is no published figure" for figure in others]
    return wrong


def main() -> None:
    """Write all pages, or name what differs in them, in the weights' card and in the prose of the notebooks."""
    pages = {}
    for page in (ROOT / "README.md", ROOT / "benchmarks/README.md"):
        pages[page] = PART.sub(lambda part: f"<!--{part[1]}-->\n\n{PARTS[part[1]]()}\n\n<!--end-->", page.read_text())
    if "--check" in sys.argv:
        if wrong := check(pages):
            sys.exit("\n".join(wrong))
        return
    for page, written in pages.items():
        files.write(page, written)
    files.write_figures(ROOT / "images", {"comparison": comparison.figure(runs())})


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        print(f"pages: error: {error}", file=sys.stderr)
        sys.exit(2)
