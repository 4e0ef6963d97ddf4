"""Recipes side by side: what is trained, what is written, and how it goes on after an interruption."""

import csv
import json
from dataclasses import replace
from statistics import fmean, stdev

import pytest
import torch

from mnist_adder import comparison, runs, training
from mnist_adder.comparison import compare
from mnist_adder.data import Data, InputError
from mnist_adder.evaluation import evaluate
from mnist_adder.models import build, parameter_count
from mnist_adder.recipes import RECIPES
from mnist_adder.training import fit

SEEDS = (10, 11)
PAIR = [replace(RECIPES[name], epochs=1, digits_epochs=1, batch_size=60) for name in ("adder", "exact-adder")]
ACCURACIES = [f"{part}_accuracy" for part in ("digit", "sum", "joint", "product")]


def run(data: Data, out, recipes=PAIR, seeds=SEEDS, validate=None) -> list[dict]:
    cpu = torch.device("cpu")
    return compare(recipes, data, seeds=seeds, device=cpu, out=out, validate=validate, bar=False)


def cells(table: str, first: str) -> list[list[str]]:
    """The cells of a Markdown table's rows that begin with `first`."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return [row for row in rows if row[0] == first]


@pytest.fixture(scope="module")
def compared(few, tmp_path_factory):
    """The folder and the rows of two recipes with two seeds each."""
    folder = tmp_path_factory.mktemp("compared")
    return folder, run(few, folder)


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, int]]:
    """The recipe and the seed of each training, in turn; its figures are left out."""
    begun = []

    def noted(recipe, *arguments, seed, **options):
        begun.append((recipe.name, seed))
        return fit(recipe, *arguments, seed=seed, **options)

    monkeypatch.setattr(runs, "fit", noted)
    monkeypatch.setattr(runs, "draw", lambda *_: {})
    return begun


def test_each_run_is_a_whole_run_of_its_own(compared, few):
    folder, rows = compared
    assert [(row["recipe"], row["seed"]) for row in rows] == [(r.name, seed) for r in PAIR for seed in SEEDS]
    for row in rows:
        own = folder / f"{row['recipe']}-{row['seed']}"
        assert runs.read_run(own).metrics == row
        assert (own / "curves.png").is_file()
    alone = evaluate(fit(PAIR[0], few, seed=11, bar=False).model, few.test)
    assert alone.metrics.items() <= rows[1].items()


def test_the_table_the_file_and_the_figure(compared):
    folder, rows = compared
    table = (folder / "comparison.md").read_text()
    assert table == comparison.markdown(rows)
    adder = [row for row in rows if row["recipe"] == "adder"]
    (ours,) = cells(table, "`adder`")
    assert ours[1:4] == [f"{parameter_count(build('adder')):,}", "1", "10, 11"]
    for cell, name in zip(ours[5:9], ACCURACIES, strict=True):
        values = [100 * row[name] for row in adder]
        assert cell == f"{fmean(values):.2f} ± {stdev(values):.2f}"
    for part in ("digits, test split", adder[0]["hardware"], adder[0]["torch"]):
        assert part in table
    with (folder / "comparison.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [{name: float(row[name]) for name in ACCURACIES} for row in written] == [
        {name: row[name] for name in ACCURACIES} for row in rows
    ]
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_what_was_published_stands_beside(compared):
    table = comparison.markdown(compared[1][:1])
    last, mean = cells(table, "published A")
    assert (last[5:9], mean[5:9]) == (["99.32", "99.16", "—", "—"], ["99.22", "99.06", "—", "—"])
    assert "10,000 test images" in last[-1]
    assert cells(table, "published C")[0][5:9] == ["99.32", "99.22", "—", "98.55"]
    assert "9,984" in cells(table, "published C")[0][-1]
    assert "training images" in cells(table, "published B")[0][-1]
    assert "±" not in cells(table, "`adder`")[0][5]


def test_it_goes_on_where_it_was_interrupted(few, tmp_path, trained, monkeypatch):
    def interrupted(recipe, *arguments, **options):
        if len(trained) == 2:
            raise KeyboardInterrupt
        return noted(recipe, *arguments, **options)

    noted = runs.fit
    monkeypatch.setattr(runs, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(few, tmp_path)
    assert len(cells((tmp_path / "comparison.md").read_text(), "`adder`")) == 1
    monkeypatch.setattr(runs, "fit", noted)
    rows = run(few, tmp_path)
    assert trained == [(recipe.name, seed) for seed in SEEDS for recipe in PAIR]  # each of them once
    assert run(few, tmp_path) == rows
    assert len(trained) == 4


def test_a_recipe_added_later_joins_the_others(few, tmp_path, trained):
    run(few, tmp_path, PAIR[:1], seeds=[10])
    rows = run(few, tmp_path, PAIR[1:], seeds=[11])
    assert trained == [("adder", 10), ("exact-adder", 11)]
    assert [(row["recipe"], row["seed"]) for row in rows] == trained
    assert len(cells((tmp_path / "comparison.md").read_text(), "`adder`")) == 1


def test_seeds_are_named_shortly():
    assert [comparison._ranges(seeds) for seeds in ([10], [10, 11], [10, 11, 12], [10, 12, 13])] == [
        "10",
        "10, 11",
        "10–12",
        "10, 12, 13",
    ]


@pytest.mark.parametrize("change", [{"lr": 0.2}, {"digits_epochs": 2}, {"sum_weight": 2.0}])
def test_a_run_of_other_settings_is_not_mistaken_for_this_one(few, tmp_path, trained, change):
    run(few, tmp_path, PAIR[:1])
    with pytest.raises(InputError, match=r"adder-10 holds a run with .*: choose another --out"):
        run(few, tmp_path, [PAIR[1], replace(PAIR[0], **change)])
    assert len(trained) == 2  # found out before anything was trained


def test_a_run_on_other_data_is_not_mistaken_for_this_one(few, tmp_path, trained):
    run(few, tmp_path, PAIR[:1], seeds=[10])
    with pytest.raises(InputError, match="dataset digits, not mnist"):
        run(replace(few, source="mnist"), tmp_path, PAIR[:1], seeds=[10])
    with pytest.raises(InputError, match="validate None, not 3"):
        run(replace(few, split="validation"), tmp_path, PAIR[:1], seeds=[10], validate=3)


def test_a_run_with_pairs_withheld_is_not_mistaken_for_this_one(few, tmp_path, trained):
    runs.train_run(
        runs.make_folder(tmp_path / "adder-10", "adder"),
        PAIR[0],
        few,
        device=torch.device("cpu"),
        seed=10,
        withheld=[[3, 4]],
        bar=False,
    )
    with pytest.raises(InputError, match="withheld"):
        run(few, tmp_path, PAIR[:1], seeds=[10])


def test_metrics_that_lack_something(few, tmp_path, trained):
    run(few, tmp_path, PAIR[:1], seeds=[10])
    path = tmp_path / "adder-10" / "metrics.json"
    metrics = json.loads(path.read_text())
    del metrics["joint_accuracy"]
    path.write_text(json.dumps(metrics))
    with pytest.raises(InputError, match="joint_accuracy"):
        run(few, tmp_path, PAIR[:1], seeds=[10])


def test_a_run_that_was_interrupted_goes_on(few, tmp_path, trained, monkeypatch):
    recipe = replace(PAIR[0], epochs=2, digits_epochs=2)
    plain = training.train_epoch
    begun = []

    def train_epoch(*arguments):
        begun.append(arguments[6])
        if len(begun) == 2:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(training, "train_epoch", train_epoch)
    with pytest.raises(KeyboardInterrupt):
        run(few, tmp_path, [recipe], seeds=[10])
    with pytest.raises(InputError, match="whose settings differs"):
        run(few, tmp_path, [replace(recipe, lr=0.2)], seeds=[10])
    (row,) = run(few, tmp_path, [recipe], seeds=[10])
    assert begun == ["epoch  1/2", "epoch  2/2", "epoch  2/2"]
    alone = evaluate(fit(recipe, few, seed=10, bar=False).model, few.test)
    assert alone.metrics.items() <= row.items()
