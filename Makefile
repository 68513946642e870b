# Two commands do the main job: `make demo` and `make test`. Both do their own set-up.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
TRITON_VENV := .venv-triton
BIN := $(VENV)/bin
# Test processes beside each other; each takes about 4 GiB. Three are no faster on two cores.
JOBS ?= 2

.PHONY: help demo test lint format install bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: install  ## make a shop, learn from it, serve it from a real Triton, compare found with planted
	$(BIN)/shopsight demo $(ARGS)

test: install lint  ## everything that protects the project
	$(BIN)/pytest --numprocesses=$(JOBS) --no-loadscope-reorder $(ARGS)

lint: install  ## layout, rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install  ## mend layout and rules
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install:  ## both environments
	@$(MAKE) --no-print-directory -j2 $(VENV)/.installed $(TRITON_VENV)/.installed

# torch goes first and alone: a dependency that asks for it by range would fetch another build.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,distributed,images,encoders,cpu,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt torchrec==1.8.0
	touch $@

# Triton's python backend answers with empty tensors under numpy 2: an environment of its own.
$(TRITON_VENV)/.installed: constraints-triton.txt
	$(PYTHON) -m venv $(TRITON_VENV)
	$(TRITON_VENV)/bin/pip install --quiet --disable-pip-version-check -r constraints-triton.txt
	touch $@

bench: install  ## make bench NAME=als
	$(BIN)/shopsight bench $(NAME)

clean:  ## remove environments, caches and the demo shop
	rm -rf $(VENV) $(TRITON_VENV) shop-demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
