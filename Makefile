# Everything happens in .venv; `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-method test-slow fuzz kill lint lock bench table clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

# A third of the usual rounds: minutes on two cores, and both runs see the same number of images. In a window of soft
# tissue so few rounds go further than in that of all CT numbers.
SOFT := --window -300 500 --scale 10
demo: $(READY)
	rm -rf demo
	$(BIN)/ganatomy train wgan-vgg --preset small $(SOFT) --baseline --rounds 450 --out demo/cnn-mse
	$(BIN)/ganatomy train wgan-vgg --preset small $(SOFT) --content-weight 1 --rounds 150 --out demo/wgan-vgg
	$(BIN)/ganatomy evaluate demo/wgan-vgg --against demo/cnn-mse
	@echo "Open demo/wgan-vgg/evaluation/report.html"

test: $(READY)
	$(BIN)/python -m pytest

# The tests of one system: make test-method NAME=segan
test-method: $(READY)
	$(BIN)/python -m pytest tests/methods --system $(NAME)

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# Damaged inputs of all kinds, and commands killed at random moments; the tests run a small part of both.
fuzz: $(READY)
	$(BIN)/python scripts/fuzz.py --count 1500 --accepted fuzz-accepted.md

kill: $(READY)
	$(BIN)/python scripts/kill_test.py --times 10

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Versions of everything that is installed, for Linux, macOS and Windows and Python 3.11 to 3.13.
lock: $(READY)
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --constraint constraints.txt --no-header --quiet --output-file requirements.lock

bench: $(READY)
	$(BIN)/python benchmarks/run_all.py

table: $(READY)
	$(BIN)/python scripts/systems_table.py

clean:
	rm -rf $(VENV) demo
