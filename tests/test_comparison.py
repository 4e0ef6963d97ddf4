"""Recipes side by side: what is trained, what is written, and how it goes on after an interruption."""

import csv
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import pytest
from conftest import PlainNet

from mnist_adder import training
from mnist_adder.checks import InputError
from mnist_adder.data import Data
from mnist_adder.evaluation import evaluate
from mnist_adder.models import build, parameter_count
from mnist_adder.published.comparison import compare, markdown
from mnist_adder.published.recipes import RECIPES
from mnist_adder.runs import folder
from mnist_adder.runs.folder import read_run
from mnist_adder.training import fit

SEEDS = (10, 11)
PAIR = [replace(RECIPES[name], epochs=1, batch_size=60) for name in ("adder", "exact-adder")]
ACCURACIES = [f"{part}_accuracy" for part in ("digit", "sum", "joint", "product")]


def run(data: Data, out: Path, recipes=PAIR, seeds=SEEDS, **settings) -> list[dict]:
    return compare(recipes, data, seeds=seeds, out=out, quiet=True, **settings)


def cells(table: str, first: str) -> list[list[str]]:
    """The cells of a Markdown table's rows that begin with `first`."""
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return [row for row in rows if row[0].startswith(first)]


@pytest.fixture(scope="module")
def compared(few, tmp_path_factory):
    """The folder and the rows of two recipes with two seeds each."""
    out = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder, "draw", lambda *_: {})
        return out, run(few, out)


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, int]]:
    """The recipe and the seed of each training that begins, in turn; its figures are left out."""
    begun = []

    def noted(recipe, *arguments, seed, **settings):
        begun.append((recipe.name, seed))
        return fit(recipe, *arguments, seed=seed, **settings)

    monkeypatch.setattr(folder, "fit", noted)
    monkeypatch.setattr(folder, "draw", lambda *_: {})
    return begun


def test_each_run_is_a_whole_run(compared, few):
    out, rows = compared
    assert [(row["recipe"], row["seed"]) for row in rows] == [(r.name, seed) for r in PAIR for seed in SEEDS]
    for row in rows:
        assert read_run(out / f"{row['recipe']}-{row['seed']}").metrics == row
    alone = evaluate(fit(PAIR[0], few, seed=11, quiet=True).model, few.test)
    assert alone.metrics.items() <= rows[1].items()


def test_the_table_the_file_and_the_figure(compared):
    out, rows = compared
    table = (out / "comparison.md").read_text()
    assert table == markdown(rows)
    adder = [row for row in rows if row["recipe"] == "adder"]
    (ours,) = cells(table, "`adder`")
    assert ours[1:4] == [f"{parameter_count(build('adder')):,}", "1", "2: 10–11"]
    for cell, name in zip(ours[5:9], ACCURACIES, strict=True):
        values = [100 * row[name] for row in adder]
        assert cell == f"{fmean(values):.2f} ± {stdev(values):.2f}"
    for part in ("digits, test split", adder[0]["hardware"], adder[0]["torch"]):
        assert part in table
    with (out / "comparison.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [{name: float(row[name]) for name in ACCURACIES} for row in written] == [
        {name: row[name] for name in ACCURACIES} for row in rows
    ]
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_published_figures_stand_beside_those_on_mnist_only(compared):
    _, rows = compared
    assert cells(markdown(rows), "published") == []
    assert "Published" not in markdown(rows)
    table = markdown([rows[0] | {"dataset": "mnist"}])
    last, mean = cells(table, "published A")
    assert (last[5:9], mean[5:9]) == (["99.32", "99.16", "—", "—"], ["99.22", "99.06", "—", "—"])
    assert "10,000 test images" in last[-1]
    assert cells(table, "published C")[0][5:9] == ["99.32", "99.22", "—", "98.55"]
    assert "9,984" in cells(table, "published C")[0][-1]
    assert "training images" in cells(table, "published B")[0][-1]
    assert "±" not in cells(table, "`adder`")[0][5]


def test_seeds_are_counted(compared):
    rows = [compared[1][0] | {"seed": seed} for seed in (10, 12, 13)]
    assert cells(markdown(rows), "`adder`")[0][3] == "3: 10–13"


def test_it_goes_on_where_it_was_interrupted(few, tmp_path, trained, monkeypatch):
    def interrupted(recipe, *arguments, **settings):
        if len(trained) == 2:
            raise KeyboardInterrupt
        return noted(recipe, *arguments, **settings)

    noted = folder.fit
    monkeypatch.setattr(folder, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(few, tmp_path)
    assert len(cells((tmp_path / "comparison.md").read_text(), "`adder`")) == 1
    monkeypatch.setattr(folder, "fit", noted)
    rows = run(few, tmp_path)
    assert trained == [(recipe.name, seed) for seed in SEEDS for recipe in PAIR]  # each of them once
    assert run(few, tmp_path) == rows
    assert len(trained) == 4


def test_a_run_that_was_interrupted_goes_on(few, tmp_path, trained, monkeypatch):
    recipe = replace(PAIR[0], epochs=2)
    plain = training.train_epoch
    begun = []

    def train_epoch(network, loader, *rest):
        begun.append(loader.epoch)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return plain(network, loader, *rest)

    monkeypatch.setattr(training, "train_epoch", train_epoch)
    with pytest.raises(KeyboardInterrupt):
        run(few, tmp_path, [recipe], seeds=[10])
    with pytest.raises(InputError, match="whose lr differs"):
        run(few, tmp_path, [replace(recipe, lr=0.2)], seeds=[10])
    (row,) = run(few, tmp_path, [recipe], seeds=[10])
    assert begun == [1, 2, 2]
    alone = evaluate(fit(recipe, few, seed=10, quiet=True).model, few.test)
    assert alone.metrics.items() <= row.items()


def test_a_recipe_added_later_joins_the_others(few, tmp_path, trained):
    run(few, tmp_path, seeds=[10], recipes=PAIR[:1])
    rows = run(few, tmp_path)
    assert trained == [("adder", 10), ("exact-adder", 10), ("adder", 11), ("exact-adder", 11)]
    assert len(rows) == 4
    assert cells((tmp_path / "comparison.md").read_text(), "`adder`")[0][3] == "2: 10–11"


def test_pairs_are_withheld_by_each_runs_seed(few, tmp_path, trained):
    rows = run(few, tmp_path, PAIR[:1], withhold=20)
    assert [len(row["withheld"]) for row in rows] == [20, 20]
    assert rows[0]["withheld"] != rows[1]["withheld"]
    assert "withheld sum %" in (tmp_path / "comparison.md").read_text()
    with pytest.raises(InputError, match="another withheld"):
        run(few, tmp_path, PAIR[:1])


def test_a_recipe_with_a_network_of_ones_own_is_read_back(few, tmp_path, trained):
    mine = replace(PAIR[0], name="mine", model=PlainNet)
    rows = run(few, tmp_path, [mine], seeds=[10])
    assert run(few, tmp_path, [mine], seeds=[10]) == rows
    assert trained == [("mine", 10)]


# Runs that do not belong together.


@pytest.mark.parametrize(
    "change", [{"lr": 0.2}, {"epochs": 2}, {"sum_weight": 2.0}, {"model": "exact-adder"}, {"degrees": 0}]
)
def test_a_run_of_other_settings_is_not_mistaken_for_this_one(few, tmp_path, trained, change):
    run(few, tmp_path, PAIR[:1], seeds=[10])
    with pytest.raises(InputError, match=r"adder-10 is a run with another .*: choose another --out"):
        run(few, tmp_path, [PAIR[1], replace(PAIR[0], **change)])
    assert len(trained) == 1  # noticed before anything was trained


def test_a_run_on_other_data_is_not_mistaken_for_this_one(few, tmp_path, trained):
    run(few, tmp_path, PAIR[:1], seeds=[10])
    for change in ({"source": "mnist"}, {"fold": 3}, {"test": few.train}):
        with pytest.raises(InputError, match=r"adder-10 is a run with another (dataset|fold|data_sha256)"):
            run(replace(few, **change), tmp_path, PAIR[:1], seeds=[10])
