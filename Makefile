# Each target sets up .venv by itself when needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The tables' trainings have one thread; with more, the same seed gives other figures.
ONE_THREAD := OMP_NUM_THREADS=1

.PHONY: run test notebook figures check-figures comparison withheld bench page weights torture colab oldest

run: $(VENV)/.installed  ## train the default recipe into a new folder under runs/
	$(BIN)/python -m mnist_adder train

test: $(VENV)/.tested  ## lint, format check and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --numprocesses auto

notebook: $(VENV)/.tested  ## run the notebooks from top to bottom and keep their outputs
	$(BIN)/jupyter nbconvert --to notebook --execute --ExecutePreprocessor.record_timing=False --inplace notebooks/*.ipynb
	$(BIN)/jupyter nbconvert --to notebook --coalesce-streams --inplace notebooks/*.ipynb
	$(BIN)/python benchmarks/notebook_pictures.py notebooks/*.ipynb

figures: $(VENV)/.tested runs/readme/SHA256SUMS  ## the README's tables, and its figures in images/
	cp $(foreach name,curves mistakes samples,runs/readme/$(name).png) images
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/page_picture.py images/page.png

check-figures: $(VENV)/.tested  ## do the pages say what was measured?
	$(BIN)/python benchmarks/tables.py --check

comparison: $(VENV)/.tested  ## train all recipes, several seeds each (hours; it can be interrupted)
	$(ONE_THREAD) $(BIN)/python benchmarks/trainings.py comparison

withheld: $(VENV)/.tested  ## withhold pairs: who adds, and who remembers? (half an hour)
	$(ONE_THREAD) $(BIN)/python benchmarks/trainings.py withheld

bench: $(VENV)/.tested  ## time ours against a published loop (half an hour)
	$(BIN)/python benchmarks/bench.py $(OPTIONS)

page: $(VENV)/.tested  ## build page/index.html; OPTIONS=--train trains its networks anew first
	$(BIN)/python benchmarks/build_page.py $(OPTIONS)

weights: $(VENV)/.tested runs/readme/SHA256SUMS  ## train the package's weights (an hour); a run's log for the README
	$(ONE_THREAD) $(BIN)/python benchmarks/ship_weights.py runs/readme

torture: $(VENV)/.tested  ## kill trainings, damage files; OPTIONS=--quick for a few
	$(BIN)/python benchmarks/torture.py $(OPTIONS)

colab: .venv-colab/.installed  ## run the notebooks with Colab's versions (6 GB; PYTHON=python3.13)
	bash tests/colab.sh .venv-colab/bin/python

oldest: .venv-oldest/.installed  ## run the tests with the oldest supported versions (PYTHON=python3.10)
	.venv-oldest/bin/python -m pytest

runs/readme/SHA256SUMS: | $(VENV)/.tested
	$(ONE_THREAD) $(BIN)/python -m mnist_adder train $(if $(wildcard runs/readme),--resume,--data mnist --seed 10 --out) runs/readme

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
