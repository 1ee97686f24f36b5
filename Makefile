# Everything sets up its own environment in .venv; a bare machine with CPython 3.11+ is enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Where torch comes from, as for the images: `cpu` is PyTorch's index of CPU builds; `none` or empty is what pip
# is configured to use. Not given: `none` if pip has sources configured, else `cpu`, as PyPI's build is for CUDA.
TORCH_BACKEND ?= choose

.PHONY: demo test check ci unit fast older-flower mutants proto dashboards browser screenshots clean
demo: $(STAMP)
	$(BIN)/smpcfl demo

# Format, lint, types.
check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(STAMP)
	$(BIN)/pytest

# What CI runs, to the letter. Of the tests all schedules of faults in the simulated network, a few minutes, and a
# million bad inputs to parsers and services, two minutes. What starts services as processes or containers is too
# much for a small machine twice at once, and runs one by one. So do the benchmarks, before all tests.
ci: check older-flower
	$(BIN)/smpcfl bench --short --check
	SCHEDULES=20000 FUZZ=1000000 $(BIN)/pytest -n auto --dist worksteal -m "$(FAST)"
	$(BIN)/pytest -m "not ($(FAST))"

# Without the tests that open sockets or start processes or containers; tests/conftest.py holds them to that.
unit: $(STAMP)
	$(BIN)/pytest -n auto --dist worksteal -m "not sockets and not commands and not processes and not containers"

# Without the tests that start services as processes or containers.
FAST := not processes and not containers
fast: $(STAMP)
	$(BIN)/pytest -n auto --dist worksteal -m "$(FAST)"

# The fast tests of what touches Flower, with the oldest Flower that pyproject.toml allows. It lies over the
# environment's own, and takes its dependencies from there.
OLDER_FLOWER := 1.41.*
older-flower: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(VENV)/older-flower \
	  "flwr==$(OLDER_FLOWER)"
	folder="$(CURDIR)/$(VENV)/older-flower"; PYTHONPATH="$$folder" OLDER_FLOWER_IN="$$folder" \
	  $(BIN)/pytest -n auto --dist worksteal -m "$(FAST)" \
	  tests/repository/test_flower_versions.py tests/flower tests/daemons tests/aggregator tests/simulation

# Small faults planted in the core, one at a time: which of them does no test notice? Half an hour for a hundred.
# MUTANTS="--count 20 --seed 7" for others.
mutants: $(STAMP)
	$(BIN)/pip freeze --exclude-editable > $(VENV)/installed.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(VENV)/installed.txt "cosmic-ray>=8.4,<9"
	$(BIN)/python tests/mutants.py $(MUTANTS)

# What tests of pages need beside Chromium: axe-core, which looks for barriers. npm comes with Node.js.
browser: $(STAMP)
	command -v chromium >/dev/null || echo "no chromium: apt-get install chromium (tests of pages are skipped)" >&2
	npm install --silent --no-fund --no-audit --prefix $(VENV)/npm "axe-core@^4.10"

# The pictures of README.md, docs/images/*.png, from real runs in a browser and on a Docker engine. A quarter of an
# hour; SCREENSHOTS=report or dashboard for one part.
screenshots: $(STAMP)
	$(BIN)/python tests/screenshots.py $(SCREENSHOTS)

# The gRPC code from proto/, after a change there.
proto: $(STAMP)
	$(BIN)/pip install --quiet --no-deps --editable .

# grafana/dashboards/*.json, after a change in grafana/boards/.
dashboards: $(STAMP)
	$(BIN)/python grafana/build.py

$(STAMP): pyproject.toml setup.py $(wildcard proto/smpc/v1/*.proto)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "CPython 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python docker/requirements.py pyproject.toml $(VENV)
	backend="$(TORCH_BACKEND)"; \
	if [ "$$backend" = choose ]; then \
	  backend=cpu; ! $(BIN)/pip config list | grep -Eq 'find-links|index-url' || backend=none; \
	fi; \
	if [ "$${backend:-none}" != none ]; then \
	  $(BIN)/pip install --quiet --disable-pip-version-check uv && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend="$$backend" -r $(VENV)/torch.txt || \
	  echo "PyTorch's index of $$backend builds does not answer: torch comes from where pip finds it"; \
	fi
	$(BIN)/pip install --quiet --disable-pip-version-check -r $(VENV)/torch.txt --editable ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r $(VENV)/data.txt
	touch $@

clean:
	rm -rf $(VENV) build services/smpc services/*.egg-info
