"""Write the measured figures into the pages, or check that they stand there.

    python benchmarks/tables.py          # writes README.md and benchmarks/README.md
    python benchmarks/tables.py --check  # names what differs, exit status 1; it needs MNIST

A part of a page between ``<!--NAME-->`` and ``<!--end-->`` is what the function NAME returns, from
the tables in ``results/`` alone.
"""

import ast
import json
import re
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev

from mnist_adder import evaluate, load_data, load_pretrained
from store import RESULTS, ROOT, Row, read_table, write_text

PAGES = (ROOT / "README.md", ROOT / "benchmarks/README.md")
CARD = ROOT / "mnist_adder/weights/README.md"
PART = re.compile(r"<!--(\w+)-->\n(.*?)<!--end-->", re.DOTALL)
FIGURE = re.compile(r"\d+\.\d+ ?(?:%|s\b|ms\b|points\b|MB\b|×)")
RECIPES = ("adder", "number-line", "speedrun")  # of the README's table


def table(titles: Iterable[str], rows: Iterable[Iterable[object]], texts: int = 1) -> str:
    """Return a Markdown table; all columns but the first `texts` are aligned to the right."""
    titles = list(titles)
    marks = ["---"] * texts + ["---:"] * (len(titles) - texts)
    lines = [titles, marks, *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def trainings(withheld: int | None = None) -> dict[str, list[Row]]:
    """Return the trainings on MNIST with so many pairs withheld, by recipe."""
    rows = read_table(RESULTS / "trainings.csv")
    rows = [row for row in rows if row["withheld"] == withheld and row["dataset"] == "mnist"]
    return {name: list(group) for name, group in groupby(rows, lambda row: row["recipe"])}


def bench(section: str) -> dict[str, Row]:
    """Return a section's rows by name; none, if it is not measured."""
    rows = read_table(RESULTS / "bench.csv")
    return {row["what"]: row for row in rows if row["section"] == section}


def measured_on(rows: Iterable[Row]) -> str:
    """Return the hardware and versions behind some rows."""
    machines = {f"{r['hardware']}, torch {r['torch']}, mnist_adder {r['version']}" for r in rows}
    return "; ".join(sorted(machines))


def mean(rows: Iterable[Row], name: str, scale: float = 100, places: int = 2) -> str:
    """Return the mean of a column, with the standard deviation where there are several rows."""
    values = [scale * row[name] for row in rows]
    spread = f" ± {stdev(values):.{places}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{places}f}{spread}"


def seeds_of(rows: list[Row]) -> str:
    first = rows[0]["seed"]
    return f"{first}–{rows[-1]['seed']}" if len(rows) > 1 else str(first)


def headline() -> str:
    """The three numbers on the README's first screen."""
    adder = trainings(0)["adder"]
    speed = bench("headline")
    withheld = trainings(81)
    line, mlp = (mean(withheld[name], "withheld_sum", places=1) for name in RECIPES[1::-1])
    line = line.partition(" ")[0]
    mlp = mlp.partition(" ")[0]
    share = 1 / speed["system A's time by ours"]["median"]
    return (
        f"* **{mean(adder, 'joint').partition(' ')[0]} %** of the test's pairs (image, number) get"
        f" both answers right: `adder`, {adder[0]['parameters']:,} parameters.\n"
        f"* **{speed['speedrun']['median']:.1f} s** of training on two CPU cores: `speedrun` is"
        f" {passed(speed)} the best published accuracies, in 1/{1 / share:.0f} of a\n"
        "  published system's time.\n"
        f"* **{line} %** of the sums are right for the 81 of 100 pairs (digit, number) that the"
        f" number line never met in training;\n  the usual MLP has {mlp} % right."
    )


def passed(rows: dict[str, Row]) -> str:
    """Return whether `speedrun`, less two standard errors, is above the best published figures."""
    published = read_table(RESULTS / "published.csv")
    for part in ("digit", "sum"):
        row = rows[f"speedrun, {part} accuracy"]
        best = max(figures[part] for figures in published if isinstance(figures[part], float))
        if row["mean"] - 2 * row["error"] <= best:
            return "not above"
    return "above"


def recipes() -> str:
    """The README's table: our recipes beside the best published figures."""
    ours = {name: rows for name, rows in trainings(0).items() if name in RECIPES}
    titles = "recipe|parameters|epochs|seconds|digit %|sum %|both (joint) %".split("|")
    lines = [accuracy_line(name, rows) for name, rows in ours.items()]
    published = read_table(RESULTS / "published.csv")
    lines += [published_line(row) for row in published if row["in_readme"]]
    rows = [row for group in ours.values() for row in group]
    note = f"Mean ± standard deviation over seeds {seeds_of(ours['adder'])}. {measured_on(rows)}."
    return f"{table(titles, lines)}\n\n{note}"


def accuracy_line(name: str, rows: list[Row]) -> list[object]:
    """Return a recipe's line of a table."""
    seconds = mean(rows, "seconds", scale=1, places=1 if rows[0]["seconds"] < 10 else 0)
    accuracies = [mean(rows, part) for part in ("digit", "sum", "joint")]
    return [f"`{name}`", f"{rows[0]['parameters']:,}", rows[0]["epochs"], seconds, *accuracies]


def published_line(row: Row) -> list[object]:
    """Return a published system's line."""
    name = f"published {row['system']} (`{row['recipe']}`)"
    return [name, row["parameters"], row["epochs"], "—", row["digit"], row["sum"], "—"]


def all_recipes() -> str:
    """The table of ``make comparison``."""
    ours = trainings(0)
    titles = "recipe|parameters|epochs|seconds|digit %|sum %|both (joint) %|seeds".split("|")
    lines = [[*accuracy_line(name, rows), seeds_of(rows)] for name, rows in ours.items()]
    lines += [
        [*published_line(row), f"one; {row['measured']}"]
        for row in read_table(RESULTS / "published.csv")
    ]
    rows = [row for group in ours.values() for row in group]
    return f"{table(titles, lines)}\n\n{measured_on(rows)}."


def withheld() -> str:
    """The table of ``make withheld``: sums of pairs that training never met."""
    titles = "withheld|recipe|seeds|withheld sums %|the least|shown sums %|in order|step error"
    lines = []
    for count in (20, 40, 60, 81):
        for name, rows in trainings(count).items():
            least = 100 * min(row["withheld_sum"] for row in rows)
            line = [count, f"`{name}`", seeds_of(rows), mean(rows, "withheld_sum"), f"{least:.2f}"]
            line.append(mean(rows, "shown_sum"))
            if rows[0]["step_error"] is None:
                line += ["", ""]
            else:
                ordered = sum(row["in_order"] for row in rows)
                error = max(row["step_error"] for row in rows)
                line += [f"{ordered} of {len(rows)}", f"{error:.3f}"]
            lines.append(line)
    return table(titles.split("|"), lines)


def adds() -> str:
    """The README's short form of that table."""
    counts = (20, 40, 60, 81)
    lines = []
    for recipe, title in (("number-line", "number line"), ("adder", "MLP")):
        shares = [mean(trainings(count)[recipe], "withheld_sum", places=1) for count in counts]
        lines.append([title, *(f"{share.partition(' ')[0]} %" for share in shares)])
    return table(["pairs withheld", *counts], lines)


def gpu() -> str:
    """The README's figures of a GPU."""
    rows = bench("gpu")
    joint = rows["adder, joint accuracy"]
    return (
        f"On an {rows['adder']['machine'].partition(' (')[0]}, `adder` takes"
        f" {rows['adder']['median']:.0f} s (joint accuracy {joint['mean']:.2f} %,"
        f" {joint['repeats']} seeds), `speedrun` {rows['speedrun']['median']:.1f} s and published"
        f" system A\n{rows['system A']['median']:.0f} s. Such small operations take longer to"
        " start than to do."
    )


def log() -> str:
    """The first and the last epochs of a training's log."""
    return f"```\n{(RESULTS / 'log.txt').read_text().strip()}\n```"


def examples() -> str:
    """A line for each example: the first line of its docstring."""
    lines = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        about = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        lines.append(f"* [{path.name}](examples/{path.name}): {about}")
    return "\n".join(lines)


def speed() -> str:
    """All sections of the bench."""
    rows = read_table(RESULTS / "bench.csv")
    lines = []
    machines = []
    for section, group in groupby(rows, lambda row: row["section"]):
        group = list(group)
        for row in group:
            spread = f"{number(row['least'])}–{number(row['greatest'])}"
            spread = spread if row["repeats"] > 1 else ""
            value = f"{number(row['median'])} {row['unit']}"
            lines.append([section, row["what"], value, spread, row["repeats"]])
        machines.append((f"{group[0]['machine']}; mnist_adder {group[0]['version']}", section))
    titles = ["section", "what", "median", "least–greatest", "repeats"]
    notes = []
    for machine, group in groupby(machines, lambda pair: pair[0]):
        notes.append(f"{', '.join(section for _, section in group)}: {machine}.")
    return "\n\n".join([table(titles, lines, texts=2), *notes])


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def searches() -> str:
    """What was tried on folds: the change, and the difference in joint accuracy."""
    rows = [row for row in read_table(RESULTS / "search.csv") if row["difference"] is not None]
    lines = [
        [row["recipe"], row["candidate"], row["folds"], f"{row['difference']:+.2f} ± {row['error']:.2f}"]
        for row in rows
    ]
    return table(["recipe", "change", "folds", "joint accuracy, points"], lines, texts=2)


def handwriting() -> str:
    """The table of ``handwriting.py``, and its sentence on fonts."""
    rows = read_table(RESULTS / "handwriting.csv")
    fonts = [row for row in rows if row["as"].startswith("font ")]
    lines = [[row["as"], f"{row['right'] / row['of']:.2%}"] for row in rows if row not in fonts]
    right = sum(row["right"] for row in fonts)
    total = sum(row["of"] for row in fonts)
    sentence = f"Digits of {len(fonts)} fonts that imitate handwriting: {right} of {total} right."
    return f"{table(['as', 'digits right'], lines)}\n\n{sentence}"


PARTS = (
    headline,
    recipes,
    all_recipes,
    log,
    withheld,
    adds,
    gpu,
    examples,
    speed,
    searches,
    handwriting,
)


def filled(page: Path) -> str:
    """Return a page with all of its parts as measured."""
    parts = {part.__name__: part for part in PARTS}
    fill = lambda found: f"<!--{found[1]}-->\n\n{parts[found[1]]()}\n\n<!--end-->"  # noqa: E731
    return PART.sub(fill, page.read_text())


def differences() -> list[str]:
    """Return what the pages and the notebooks say that was not measured."""
    wrong = []
    for page in PAGES:
        text = page.read_text()
        for old, new in zip(PART.finditer(text), PART.finditer(filled(page)), strict=True):
            if old[0] != new[0]:
                wrong.append(f"{page}: the part {old[1]} is not as measured")
        for figure in FIGURE.findall(PART.sub("", text)):
            wrong.append(f"{page}: {figure} stands outside of all parts")
    published = read_table(RESULTS / "published.csv")
    known = {f"{row[part]} %" for row in published for part in ("digit", "sum", "product")}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        for figure in FIGURE.findall(prose):
            if figure not in known:
                wrong.append(f"{path}: {figure} stands in the prose, but is no published figure")
    return wrong


def card_differences() -> list[str]:
    """Return what is wrong in the card of the package's weights, which are measured again."""
    metrics = evaluate(load_pretrained(), load_data("mnist")).metrics
    measured = [f"{metrics[f'{part}_accuracy']:.3%}" for part in ("digit", "sum", "joint")]
    if re.findall(r"[\d.]+%", CARD.read_text()) == measured:
        return []
    return [f"{CARD}: the accuracies are not {', '.join(measured)}"]


def main() -> None:
    """Write all pages, or name what differs."""
    if "--check" in sys.argv:
        sys.exit("\n".join(differences() + card_differences()) or None)
    for page in PAGES:
        write_text(page, filled(page))


if __name__ == "__main__":
    main()
