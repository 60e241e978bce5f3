# Every target does its own set-up; all of it needs only Python 3.11 or newer, make and git.
.DELETE_ON_ERROR:
.PHONY: help demo test test-long check serve bench bench-queue bench-conversion bench-upload docs format clean
.DEFAULT_GOAL := help

# The first fitting Python on PATH, or the one that PYTHON names: make demo PYTHON=/path/to/python3.12
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV   := .venv
BIN    := $(VENV)/bin
# What decides what is installed; a change to any of these installs again.
RECIPE := Makefile pyproject.toml hatch_build.py $(wildcard web/*) web/.npmrc

help:           ## list the targets, a line each
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.run        ## a real data set, uploaded, converted and shown (DATA=path: your own)
	@$(BIN)/scientistcloud demo $(if $(DATA),"$(DATA)") $(ARGS)

test: $(VENV)/.test       ## the test suite (ARGS="-k name" to narrow it)
	@$(BIN)/python -m pytest $(ARGS)

test-long: $(VENV)/.test  ## what takes longer: thousands of seeds, chaos, large files
	@$(BIN)/python -m pytest -m long $(ARGS)

check: $(VENV)/.check     ## format, lint, types, layers, docs
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/mypy tests/browser/conftest.py \
	  && $(BIN)/mypy tests/acceptance/conftest.py \
	  && $(BIN)/lint-imports --no-cache \
	  && $(BIN)/python -m pytest -q -m "" --numprocesses=0 tests/docs

serve: $(VENV)/.run       ## the portal and a worker on this machine
	@$(BIN)/scientistcloud serve $(ARGS)

bench: bench-queue bench-conversion bench-upload  ## all benchmarks; see benchmarks/RESULTS.md

bench-queue: $(VENV)/.test       ## the queue beside six others, ten minutes (ARGS=--quick: two)
	@$(BIN)/python benchmarks/queue.py $(ARGS)

bench-conversion: $(VENV)/.test  ## conversion beside other converters
	@$(BIN)/python benchmarks/conversion.py $(ARGS)

bench-upload: $(VENV)/.test      ## uploads beside a raw connection and another server
	@$(BIN)/python benchmarks/upload.py $(ARGS)

docs: $(VENV)/.check      ## check that every command and setting has its page
	@$(BIN)/python -m pytest -m "" --numprocesses=0 tests/docs

format: $(VENV)/.check    ## format and mend what can be mended by itself
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:          ## remove what was built and installed
	rm -rf $(VENV) dist build src/scientistcloud/portal/static/vendor

# uv takes a sixth of pip's time; pip does the same where uv cannot be had (or UV=no says so). uv is told to
# build again because it looks at pyproject.toml alone to see whether anything changed.
install = @if [ "$(UV)" != no ] && uv=$$(command -v uv || command -v $(BIN)/uv); then \
	"$$uv" pip install --quiet --python $(BIN)/python --reinstall-package scientistcloud --editable '$(1)'; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '$(1)'; fi

$(VENV)/.run: $(RECIPE) | $(BIN)/python
	@echo "Installing ScientistCloud into $(VENV) (once) ..."
	$(call install,.[demo])
	@touch $@

$(VENV)/.test: $(VENV)/.run
	@echo "Adding what the tests need (once) ..."
	$(call install,.[test])
	@touch $@

$(VENV)/.check: $(VENV)/.test
	@echo "Adding what the checks need (once) ..."
	$(call install,.[check])
	@touch $@

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "ScientistCloud needs Python 3.11 or newer; none is on PATH (python3 is" \
	  "$$(python3 --version 2>&1 | head -n 1)). Install one, or name it: make demo PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"ScientistCloud needs Python 3.11 or newer; $(PYTHON) is {v[0]}.{v[1]}. Name another: make demo PYTHON=/path/to/python3.12")'
	@rm -rf $(VENV); if [ "$(UV)" != no ] && command -v uv >/dev/null; then uv venv --quiet --seed --python "$(PYTHON)" $(VENV); \
	  elif "$(PYTHON)" -m venv $(VENV) >/dev/null; then \
	    [ "$(UV)" = no ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv || true; \
	  else rm -rf $(VENV); echo "$(PYTHON) cannot make virtual environments." \
	    "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; fi
