# Each target sets up .venv by itself when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test notebook figures check-figures comparison withheld bench page weights torture colab oldest

run: $(VENV)/.installed  ## train the default recipe into a new folder under runs/
	$(BIN)/python -m mnist_adder train

test: $(VENV)/.tested  ## lint, format check and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

notebook: $(VENV)/.tested  ## run the notebooks from top to bottom and keep their outputs
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb
	$(BIN)/jupyter nbconvert --to notebook --coalesce-streams --inplace notebooks/*.ipynb

figures: $(VENV)/.tested runs/readme/SHA256SUMS  ## put a run's figures and the page's picture into images/
	cp runs/readme/samples.png runs/readme/curves.png runs/readme/mistakes.png runs/readme/truth_table.png images/
	$(BIN)/python benchmarks/page_picture.py images/page.png

comparison: $(VENV)/.tested  ## train all recipes, several seeds each (hours; it can be interrupted)
	$(BIN)/python benchmarks/trainings.py comparison

withheld: $(VENV)/.tested  ## withhold pairs from training: who adds, and who remembers? (hours)
	$(BIN)/python benchmarks/trainings.py withheld

bench: $(VENV)/.tested  ## time ours against the published loops; OPTIONS=--quick for a smoke run
	$(BIN)/python benchmarks/bench.py $(OPTIONS)

check-figures: $(VENV)/.tested  ## do the pages say what was measured?
	$(BIN)/python benchmarks/tables.py --check

page: $(VENV)/.installed  ## build page/index.html; OPTIONS=--train trains its three networks anew
	$(BIN)/python benchmarks/build_page.py $(OPTIONS)

weights: $(VENV)/.tested runs/readme/SHA256SUMS  ## put a run's weights and their card into the package
	$(BIN)/python benchmarks/ship_weights.py runs/readme

torture: $(VENV)/.tested  ## kill trainings, damage files
	$(BIN)/python benchmarks/torture.py $(OPTIONS)

colab: .venv-colab/.installed  ## run the notebooks with Colab's versions (6 GB; PYTHON=python3.13, as Colab has)
	bash tests/colab.sh .venv-colab/bin/python

oldest: .venv-oldest/.installed  ## run the tests with the oldest supported versions (PYTHON=python3.10)
	.venv-oldest/bin/python -m pytest

runs/readme/SHA256SUMS:
	$(BIN)/python -m mnist_adder train --data mnist --seed 10 --out runs/readme

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

.venv-colab/.installed: tests/colab.txt
	$(PYTHON) -m venv .venv-colab
	.venv-colab/bin/python -m pip install --quiet --requirement $<
	touch $@

.venv-oldest/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-oldest
	grep -oE '[a-z-]+>=[0-9.]+' pyproject.toml | sed 's/>=/==/' >.venv-oldest/versions.txt
	.venv-oldest/bin/python -m pip install --quiet --constraint .venv-oldest/versions.txt --editable '.[test]'
	touch $@
