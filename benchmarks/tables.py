"""Write the measured figures into the pages, or check that they stand there.

    python benchmarks/tables.py          # writes README.md and benchmarks/README.md
    python benchmarks/tables.py --check  # names what differs, exit status 1; it needs MNIST

A part of a page between ``<!--NAME-->`` and ``<!--end-->`` is what the function NAME returns, from
the tables in ``results/`` alone. The figures in the pages' sentences are those of `quoted`.
"""

import json
import re
import sys
from collections.abc import Iterable
from statistics import fmean

from mnist_adder import evaluate, load_data, load_pretrained
from mnist_adder.files import write
from store import RESULTS, ROOT, Row, read_table, run_program

import published  # isort: skip  (store makes it found)

PAGES = (ROOT / "README.md", ROOT / "benchmarks" / "README.md")
CARD = ROOT / "mnist_adder" / "weights" / "README.md"
PART = re.compile(r"<!--(\w+)-->\n(.*?)<!--end-->", re.DOTALL)
FIGURE = re.compile(r"\d+\.\d+ ?(?:%|s\b)")
BEST = [published.PUBLISHED[0], published.PUBLISHED[-1]]  # systems A and C
RATIO = "system A's time ÷ ours"  # a row of the bench
TITLES = ["recipe", "parameters", "epochs", "digit %", "sum %", "both (joint) %"]


def recipes() -> str:
    """The README's table: our recipes beside the best published figures."""
    names = ("adder", "large", "number-line", "speedrun")
    every = trainings(0)
    ours = {name: every[name] for name in names}
    lines = [ours_line(name, rows) for name, rows in ours.items()]
    lines += [published_line(result) for result in BEST]
    note = "Mean ± standard deviation over the seeds"
    counts = f"{seeds(ours['adder'])} (`speedrun`: {seeds(ours['speedrun'])})"
    return f"{table(TITLES, lines)}\n\n{note} {counts}. {measured_on(ours)}"


def all_recipes() -> str:
    """The table of ``make comparison``."""
    ours = trainings(0)
    lines = [[*ours_line(name, rows), seeds(rows)] for name, rows in ours.items()]
    lines += [[*published_line(result), "one"] for result in published.PUBLISHED]
    return f"{table([*TITLES, 'seeds'], lines)}\n\n{measured_on(ours)}"


def withheld() -> str:
    """The table of ``make withheld``: sums of pairs that training never met."""
    titles = ["recipe", "seeds", "withheld sums %", "the least", "shown sums %"]
    groups = trainings(81)
    lines = []
    for name, rows in groups.items():
        lowest = min(100 * row["withheld_sum"] for row in rows)
        in_order = ""
        error = ""
        if rows[0]["step_error"] is not None:
            in_order = f"{sum(row['in_order'] for row in rows)} of {len(rows)}"
            error = f"{max(row['step_error'] for row in rows):.3f}"
        line = [
            f"`{name}`",
            seeds(rows),
            spread(rows, "withheld_sum"),
            f"{lowest:.2f}",
            spread(rows, "shown_sum"),
            in_order,
            error,
        ]
        lines.append(line)
    text = table([*titles, "places in order", "error of a step"], lines)
    return f"{text}\n\n{measured_on(groups)}"


def log() -> str:
    """The first and the last epochs of a training's log."""
    return f"```\n{(RESULTS / 'log.txt').read_text().strip()}\n```"


def speed() -> str:
    """All that the bench measured."""
    lines = []
    notes = {}
    for row in read_table(RESULTS / "bench.csv"):
        value = f"{number(row['median'])} {row['unit']}"
        extremes = f"{number(row['least'])} … {number(row['greatest'])}"
        extremes = extremes if row["repeats"] > 1 else "once"
        lines.append([row["section"], row["what"], value, extremes, row["repeats"]])
        notes[row["section"]] = f"{row['machine']}; mnist_adder {row['version']}"
    titles = ["section", "", "median", "least … greatest", "repeats"]
    text = table(titles, lines, texts=2)
    for machine in dict.fromkeys(notes.values()):
        sections = [section for section, other in notes.items() if other == machine]
        text += f"\n\n{', '.join(sections)}: {machine}."
    rows = bench("headline")
    low = ", ".join(f"{part} {least(rows, part):.3f} %" for part in ("digit", "sum"))
    return f"{text}\n\nThe accuracies of `speedrun`, less two standard errors of the mean: {low}."


def searches() -> str:
    """What was tried on folds: the change, and the difference in joint accuracy."""
    lines = []
    rows = read_table(RESULTS / "search.csv")
    for row in rows:
        recipe = f"`{row['recipe']}`"
        difference = f"{row['difference']:+.3f} ± {row['error']:.3f}"
        lines.append([recipe, row["change"], row["folds"], difference])
    titles = ["recipe", "change", "folds", "joint accuracy, points"]
    places = sorted({f"{row['machine']}, mnist_adder {row['version']}" for row in rows})
    return f"{table(titles, lines, texts=2)}\n\n{'; '.join(places)}."


def handwriting() -> str:
    """The table of ``handwriting.py``."""
    titles = ["pictures of", "right", "refused", "marked not sure", "of"]
    rows = read_table(RESULTS / "handwriting.csv")
    return table(titles, [row.values() for row in rows])


PARTS = [recipes, all_recipes, withheld, log, speed, searches, handwriting]


def trainings(pairs: int) -> dict[str, list[Row]]:
    """Return the trainings on MNIST with so many pairs withheld, by recipe."""
    wanted = {"dataset": "mnist", "withheld": pairs}
    rows = [row for row in read_table(RESULTS / "trainings.csv") if wanted.items() <= row.items()]
    return published.by_recipe(rows)


def bench(section: str) -> dict[str, Row]:
    """Return the rows of a section of the bench, by what was measured."""
    rows = read_table(RESULTS / "bench.csv")
    return {row["what"]: row for row in rows if row["section"] == section}


def least(rows: dict[str, Row], part: str) -> float:
    """Return the mean accuracy of `speedrun` less two standard errors."""
    row = rows[f"speedrun, {part} accuracy"]
    return row["mean"] - 2 * row["error"]


def measured_on(groups: dict[str, list[Row]]) -> str:
    """Return the hardware and the versions behind some trainings."""
    rows = [row for group in groups.values() for row in group]
    form = "{hardware}, torch {torch}, mnist_adder {version}"
    places = sorted({form.format(**row) for row in rows})
    return f"{'; '.join(places)}."


def mean(rows: list[Row], name: str) -> float:
    """Return the mean of a column of fractions, in per cent."""
    return 100 * fmean(row[name] for row in rows)


def spread(rows: list[Row], name: str) -> str:
    """Return the mean of a column, with the standard deviation where there are several rows."""
    return published.mean([100 * row[name] for row in rows])


def seeds(rows: list[Row]) -> str:
    """Return the seeds of some trainings."""
    first = rows[0]["seed"]
    last = rows[-1]["seed"]
    return f"{first}–{last}" if len(rows) > 1 else str(first)


def ours_line(name: str, rows: list[Row]) -> list[object]:
    """Return a recipe's line of a table."""
    first = rows[0]
    return [
        f"`{name}`",
        f"{first['parameters']:,}",
        first["epochs"],
        spread(rows, "digit"),
        spread(rows, "sum"),
        spread(rows, "joint"),
    ]


def published_line(result: published.Published) -> list[object]:
    """Return a published system's line."""
    name = f"published {result.system} (`{result.recipe}`)"
    return [
        name,
        result.parameters,
        result.epochs,
        result.digit,
        result.sum,
        "—",
    ]


def number(value: float) -> str:
    """Return a number with four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def table(titles: Iterable[object], lines: Iterable[Iterable[object]], texts: int = 1) -> str:
    """Return a Markdown table; all columns but the first `texts` are aligned to the right."""
    titles = list(titles)
    marks = ["---"] * texts + ["---:"] * (len(titles) - texts)
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (titles, marks, *lines))


def filled(text: str) -> str:
    """Return a page with all of its parts as measured."""
    parts = {part.__name__: part for part in PARTS}
    return PART.sub(lambda part: f"<!--{part[1]}-->\n\n{parts[part[1]]()}\n\n<!--end-->", text)


def quoted() -> list[str]:
    """Return the figures that the README's sentences quote."""
    pairs = trainings(81)
    headline = bench("headline")
    gpu = bench("gpu")
    return [
        f"{trainings(0)['adder'][0]['parameters']:,} parameters",
        f"{mean(trainings(0)['adder'], 'joint'):.2f} %",
        f"{mean(pairs['number-line'], 'withheld_sum'):.1f} %",
        f"{mean(pairs['adder'], 'withheld_sum'):.1f} %",
        f"{headline['speedrun']['median']:.1f} s",
        f"{headline[RATIO]['median']:.0f} times",
        f"{gpu['adder']['median']:.0f} s",
        f"{gpu['speedrun']['median']:.1f} s",
        f"{gpu['system A']['median']:.0f} s",
        f"{gpu['adder, joint accuracy']['mean']:.2f} %",
    ]


def page_differences() -> list[str]:
    """Return what the pages and the notebooks say that was not measured."""
    prose = PART.sub("", PAGES[0].read_text())
    measured = quoted()
    missing = [figure for figure in measured if not re.search(rf"(?<![\d.,]){figure}", prose)]
    wrong = [f"{PAGES[0]}: it does not say {figure}" for figure in missing]
    headline = bench("headline")
    if headline[RATIO]["median"] < 100:
        wrong.append("speedrun takes more than a hundredth of system A's time")
    for part in ("digit", "sum"):
        if least(headline, part) <= max(float(getattr(result, part)) for result in BEST):
            wrong.append(f"speedrun is not above the published accuracies of the {part}")
    for page in PAGES:
        text = page.read_text()
        for old, new in zip(PART.finditer(text), PART.finditer(filled(text)), strict=True):
            if old[0] != new[0]:
                wrong.append(f"{page}: the part {old[1]} is not as measured")
        others = set(FIGURE.findall(PART.sub("", text))) - set(measured)
        wrong += [f"{page}: {figure} was not measured" for figure in sorted(others)]
    known = set()
    for result in published.PUBLISHED:
        known |= {f"{share} %" for share in (result.digit, result.sum, result.product)}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        others = set(FIGURE.findall("\n".join(texts))) - known
        wrong += [f"{path}: {figure} is no published figure" for figure in sorted(others)]
    return wrong


def card_differences() -> list[str]:
    """Return what is wrong in the card of the package's weights, which are measured again."""
    metrics = evaluate(load_pretrained(), load_data("mnist")).metrics
    measured = [f"{metrics[f'{part}_accuracy']:.3%}" for part in ("digit", "sum", "joint")]
    same = re.findall(r"[\d.]+%", CARD.read_text()) == measured
    return [] if same else [f"{CARD}: the accuracies are not {', '.join(measured)}"]


def main() -> None:
    """Write all pages, or name what differs."""
    if "--check" in sys.argv:
        sys.exit("\n".join(page_differences() + card_differences()) or None)
    for page in PAGES:
        write(page, filled(page.read_text()).encode())


if __name__ == "__main__":
    run_program(main)
