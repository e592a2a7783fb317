# Two commands do everything: `make demo` and `make test`. Each makes its own virtual environment on first use.

PYTHON ?= python3
VENV ?= .venv
# Environments of engines and of the harness stay in this clone; without this they would go to the user's cache.
export QUANT_ACTION_ENVIRONMENTS ?= $(CURDIR)/.environments
PIP = -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test check unit modern legacy lm-eval smollm2 benchmark clean

demo: $(VENV)/.run
	$(VENV)/bin/quant-action run examples/tiny-llama/quant.yml

test: check
	$(MAKE) --jobs=3 modern legacy lm-eval
	$(VENV)/bin/python -m pytest --numprocesses auto --dist loadgroup

check: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

modern legacy lm-eval: $(VENV)/.run
	$(VENV)/bin/quant-action environments --install $@

unit: $(VENV)/.test
	$(VENV)/bin/python -m pytest -m "not end_to_end"

smollm2: examples/smollm2/model
	$(VENV)/bin/quant-action run examples/smollm2/quant.yml

# Half an hour to an hour: benchmarks/README.md has what it printed.
benchmark: examples/smollm2/model
	$(MAKE) modern
	$(VENV)/bin/python benchmarks/quality.py

examples/smollm2/model: | $(VENV)/.run
	$(VENV)/bin/python $(PIP) gguf
	$(VENV)/bin/python examples/smollm2/make.py

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) --editable '.[run]'
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(VENV)/bin/python $(PIP) --editable '.[all]'
	touch $@

clean:
	rm -rf $(VENV) .environments .quant examples/*/.quant
