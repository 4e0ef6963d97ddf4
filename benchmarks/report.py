"""Turns the results of `bench` into a Markdown page and a figure."""

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnist_adder import plots

COLOURS = {"ours": plots.GREEN, "system A": plots.RED, "stock example": plots.ORANGE, "system C": plots.BLUE}


def markdown(results: dict) -> str:
    """All finished sections, with the machine they were measured on."""
    lines = [
        "# Results",
        "",
        "Written by `make bench`. Each section names the machine that it was measured on, whole.",
        "",
    ]
    if results["quick"]:
        lines += ["**A smoke run (`--quick`): it shows that the bench works, and nothing else.**", ""]
    for name, section in results["sections"].items():
        lines += [f"## {name}", "", section["about"], "", section["machine"], "", table(section)]
    return "\n".join(lines)


def table(section: dict) -> str:
    """A section's rows, and its notes under them."""
    lines = ["| | median | min | max | unit | repeats |", "| --- | ---: | ---: | ---: | --- | ---: |"]
    for row in section["rows"]:
        spread = " | ".join(_text(row[key]) for key in ("median", "min", "max"))
        lines.append(f"| {row['name']} | {spread} | {row['unit']} | {len(row['values'])} |")
    notes = [f"- {note}" for note in section["notes"]]
    return "\n".join([*lines, "", *notes, *([""] if notes else [])])


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


@rc_context(plots.STYLE)
def figures(results: dict) -> dict[str, Figure]:
    """One figure, with a panel for each finished section that has one."""
    panels = {"time-to-headline": _headline, "pipeline": _pipelines, "scaling": _growth}
    finished = [name for name in panels if name in results["sections"]]
    if not finished:
        return {}
    figure = Figure(figsize=(1 + 4 * len(finished), 4.2), layout="constrained")
    for name, axes in zip(finished, figure.subplots(1, len(finished), squeeze=False)[0], strict=True):
        panels[name](axes, results["sections"][name]["rows"])
    return {"results": figure}


def _headline(axes: Axes, rows: list[dict]) -> None:
    axes.set(title="Training to the published headline", ylabel="seconds")
    for row in rows:
        if "system" in row:
            bar = axes.bar(row["system"], row["median"], color=COLOURS[row["system"]])
            axes.bar_label(bar, fmt="{:,.3g} s")


def _pipelines(axes: Axes, rows: list[dict]) -> None:
    axes.set(title="One epoch by input pipeline", ylabel="images per second")
    rows = [row for row in rows if "net" in row]
    nets = list(dict.fromkeys(row["net"] for row in rows))
    for place, (pipeline, colour) in enumerate(COLOURS.items()):
        rates = [row["median"] for row in rows if row["pipeline"] == pipeline]
        axes.bar([net + 0.2 * place for net in range(len(nets))], rates, 0.18, color=colour, label=pipeline)
    axes.set_xticks([net + 0.3 for net in range(len(nets))], nets)
    axes.set_ylim(0, 1.35 * axes.get_ylim()[1])  # room for the legend
    axes.legend(ncols=2, fontsize=9)


def _growth(axes: Axes, rows: list[dict]) -> None:
    axes.set(title="System A's network", xlabel="batch size", ylabel="images per second")
    axes.set_xscale("log", base=2)
    for pipeline in ("ours", "system A"):
        shown = [row for row in rows if row["grows"] == "batch size" and row["pipeline"] == pipeline]
        style = {"color": COLOURS[pipeline], "label": pipeline}
        axes.plot([row["at"] for row in shown], [row["median"] for row in shown], ".-", **style)
    axes.set_xticks(sizes := [row["at"] for row in shown], [str(size) for size in sizes])
    axes.set_ylim(0, None)
    axes.legend(fontsize=9)
