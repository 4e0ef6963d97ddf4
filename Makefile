# Each target sets up .venv by itself when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test notebook figures check-figures comparison withheld bench demo weights torture colab oldest

run: $(VENV)/.installed  ## train the default recipe into a new folder under runs/
	$(BIN)/python -m mnist_adder train

test: $(VENV)/.tested  ## lint, format check and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

notebook: $(VENV)/.tested  ## run the notebooks from top to bottom and keep their outputs
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace notebooks/*.ipynb
	$(BIN)/jupyter nbconvert --to notebook --coalesce-streams --inplace notebooks/*.ipynb

figures: $(VENV)/.tested runs/readme/config.json  ## draw the README's figures in images/
	$(BIN)/python -m mnist_adder figures runs/readme --out images
	rm images/confusion.png  # the README does not show it
	$(BIN)/python benchmarks/screenshot.py images/demo.png
	$(BIN)/python benchmarks/number_line.py images/number_line.png

comparison: $(VENV)/.tested  ## train all recipes, several seeds each (hours; it can be interrupted)
	$(BIN)/python benchmarks/trainings.py comparison
	$(BIN)/python benchmarks/pages.py

withheld: $(VENV)/.tested  ## withhold pairs from training: who adds, and who remembers? (hours; it can be interrupted)
	$(BIN)/python benchmarks/trainings.py withheld
	$(BIN)/python benchmarks/pages.py

bench: $(VENV)/.tested  ## time ours against the published loops; OPTIONS=--quick for a smoke run
	$(BIN)/python benchmarks/bench.py $(OPTIONS)

torture: $(VENV)/.tested  ## kill 30 trainings, damage 2,000 files
	$(BIN)/python benchmarks/torture.py

demo: $(VENV)/.demo  ## serve a page to draw on, to this machine only
	$(BIN)/python -m mnist_adder demo

colab: .venv-colab/.installed  ## run the notebooks with Colab's versions (6 GB; PYTHON=python3.13, as Colab has)
	bash tests/colab.sh .venv-colab/bin/python

oldest: .venv-oldest/.installed  ## run the tests with the oldest supported versions (PYTHON=python3.10)
	.venv-oldest/bin/python -m pytest

check-figures: $(VENV)/.tested  ## do the pages say what was measured?
	$(BIN)/python benchmarks/pages.py --check

weights: $(VENV)/.tested runs/readme/config.json  ## put a run's weights and their card into the package
	$(BIN)/python benchmarks/ship_weights.py runs/readme

runs/readme/config.json:
	$(BIN)/python -m mnist_adder train --data mnist --seed 10 --out runs/readme

$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.tested: $(VENV)/.installed pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.demo: $(VENV)/.installed pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
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
