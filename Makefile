# Everything happens in .venv; `make demo` and `make test` work on a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-method test-slow fuzz kill lint lock bench results table clean

$(READY): pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (one to three minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

# T2 images of simulated heads, predicted from T1 images; --size is that of the networks and of the heads.
DEMO := train pix2pix --preset small --size 96 96 --phantom-subjects 13 --rounds 240
demo: $(READY)
	rm -rf demo
	@echo "1 of 3: a network without an adversary learns T2 images of the head from T1 images (20 seconds on two calm cores)"
	$(BIN)/ganatomy $(DEMO) --baseline --out demo/no-adversary
	@echo "2 of 3: the same network learns against an adversary (half a minute)"
	$(BIN)/ganatomy $(DEMO) --out demo/pix2pix
	@echo "3 of 3: both are compared with the truth and with simple maps of values, on patients that they have not seen (10 seconds)"
	$(BIN)/ganatomy evaluate demo/pix2pix --against demo/no-adversary
	@echo "Open demo/pix2pix/evaluation/report.html"

# Tests of one file share what they have trained, so a process takes whole files.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations=30

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

# A page of docs/results on real images: make results PAGE=reconstruction-mr DATA=FOLDER
results: $(READY)
	$(BIN)/python scripts/results $(PAGE) --data $(DATA)

table: $(READY)
	$(BIN)/python scripts/systems_table.py

clean:
	rm -rf $(VENV) demo
