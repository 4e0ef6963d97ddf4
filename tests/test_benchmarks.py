"""The benchmarks work, and the pages quote what they measured. Nothing is measured here."""

import shutil
from dataclasses import replace

import pytest

import bench
import search
import tables
import trainings
from mnist_adder import RECIPES, Data, Split, Training, load_data
from store import read_table, write_table


@pytest.fixture(scope="module")
def small() -> Data:
    data = bench.first(load_data("digits"), 256)
    return replace(data, test=Split(*(part[:32] for part in data.test)))


def test_pages_say_what_was_measured():
    assert tables.page_differences() == []


def test_a_figure_that_was_not_measured_is_noticed(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    monkeypatch.setattr(tables, "PAGES", [page])
    quoted = ", ".join(tables.quoted())
    page.write_text(tables.filled(f"<!--recipes-->\n<!--end-->\n{quoted}\n"))
    assert not any("page.md" in line for line in tables.page_differences())
    text = page.read_text().replace("| 99.62", "| 99.63", 1)
    page.write_text(text.replace(tables.quoted()[1], "1.5 s"))
    wrong = [line for line in tables.page_differences() if "page.md" in line]
    assert len(wrong) == 3
    assert tables.quoted()[1] in wrong[0]
    assert "recipes" in wrong[1]
    assert "1.5 s" in wrong[2]


@pytest.mark.parametrize(
    ("what", "column", "value", "said"),
    [
        (tables.RATIO, "median", 99.9, "a hundredth"),
        ("speedrun, sum accuracy", "mean", 99.2, "accuracies of the sum"),
    ],
)
def test_a_broken_promise_is_noticed(what, column, value, said, tmp_path, monkeypatch):
    rows = read_table(tables.RESULTS / "bench.csv")
    row = next(row for row in rows if row["section"] == "headline" and row["what"] == what)
    row[column] = value
    results = shutil.copytree(tables.RESULTS, tmp_path / "results")
    write_table(results / "bench.csv", rows, row)
    monkeypatch.setattr(tables, "RESULTS", results)
    assert any(said in line for line in tables.page_differences())


@pytest.mark.parametrize("section", ["overhead", "headline"])
def test_a_section_of_the_bench_measures_ours_and_theirs(section, small):
    rows = {row["what"]: row for row in bench.SECTIONS[section](small, quick=True)}
    measured = tables.bench(section)
    assert set(rows) == set(measured)  # the rows that the pages quote
    assert all(rows[what]["unit"] == row["unit"] for what, row in measured.items())


def test_a_finished_training_is_read_back(tmp_path, monkeypatch, small):
    monkeypatch.setattr(trainings, "load_data", lambda source: small)
    recipe = replace(RECIPES["number-line"], epochs=1)
    task = trainings.Task(recipe, withheld=20, seed=10)
    key = trainings.key_of(task, "digits")
    row = {**key, **trainings.train(task, tmp_path / "run", "digits")}
    assert 0 <= row["withheld_sum"] <= 1
    assert row["step_error"] > 0
    monkeypatch.setattr(Training, "train_epoch", None)
    assert trainings.train(task, tmp_path / "run", "digits").items() <= row.items()


def test_a_line_of_results_takes_the_place_of_an_older_version_s(tmp_path):
    table = tmp_path / "trainings.csv"
    key = {"recipe": "adder", "withheld": 0, "seed": 10, "dataset": "mnist"}
    trainings.add_line(table, {"version": "0.1", **key, "joint": 0.5})
    trainings.add_line(table, {"version": "0.1", **key, "seed": 11, "joint": 0.5})
    trainings.add_line(table, {"version": "0.2", **key, "joint": 0.75})
    rows = [(row["seed"], row["joint"]) for row in read_table(table)]
    assert rows == [(10, 0.75), (11, 0.5)]


def test_candidates_are_compared_in_pairs():
    def lines(name: str, *joint: float) -> list[dict]:
        return [{"candidate": name, "joint": share, "seconds": 1.0} for share in joint]

    reference, other = search.comparison([lines("a", 0.9, 0.8), lines("b", 0.91, 0.83)])
    assert reference["difference"] == 0
    assert other["difference"] == pytest.approx(2)  # points: the mean of 1 and 3
    assert other["error"] == pytest.approx(1)


def test_a_table_reads_back_as_it_was_written(tmp_path):
    rows = [{"name": "10.05–10.29", "count": 3, "share": 0.125, "none": None}]
    write_table(tmp_path / "t.csv", rows, rows[0])
    assert read_table(tmp_path / "t.csv") == rows
