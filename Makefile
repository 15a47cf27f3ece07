# `make demo` and `make test` are for everyone; they need Python 3.11 or newer with its headers and
# venv, a C compiler, and nothing else. The other targets are for those who change the code.
#
# Everything is installed into .venv, with a stamp file there for each step, so that what has not
# changed is not done again. PYTHON=python3.12 picks another interpreter. Kept to what GNU make 3.81
# (macOS) understands.

PYTHON ?= python3
PY := .venv/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
SOURCES := setup.py pyproject.toml $(wildcard cbackend/*/*.[ch] fastbp/_core/*.p[xy][xd])
C_FILES := $(wildcard cbackend/*/*.[ch] tests/c/*.[ch] benchmarks/count/*.c)

.PHONY: build demo test lint c-tests check bench bench-peers count count-update format clean

build: .venv/built

demo: .venv/built .venv/has-plot
	$(PY) -m fastbp.demo

test: .venv/built .venv/has-test
	$(PY) -m pytest

# Everything that must hold before a change is shared, slow parts included.
check: lint c-tests test
	$(PY) -m pytest -m exhaustive
	bash .ci/sanitize address
	bash .ci/sanitize thread

lint: .venv/built .venv/has-dev
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/clang-format --dry-run --Werror $(C_FILES)
	@! grep --line-number '.\{101,\}' $(C_FILES) || { echo "lines of more than 100 columns"; exit 1; }

# Each tests/c/*.c is a program with a main of its own, linked to the objects of the core.
c-tests: .venv/built
	FASTBP_WERROR=1 $(PY) .ci/c_tests.py build/c

# With PyTorch and JAX among the peers once `make bench-peers` has been called.
BENCH_ENV := $(if $(wildcard .venv-bench),.venv-bench,.venv)

bench: $(if $(wildcard .venv-bench),.venv-bench/built,.venv/built .venv/has-bench)
	$(BENCH_ENV)/bin/python -m benchmarks.table

bench-peers: .venv-bench/built

# Instructions, under valgrind; benchmarks/README.md says how to read them.
count: .venv/has-build
	FASTBP_WERROR=1 $(PY) .ci/count.py

count-update: .venv/has-build
	FASTBP_WERROR=1 $(PY) .ci/count.py update

format: .venv/has-dev
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	.venv/bin/clang-format -i $(C_FILES)

clean:
	rm -rf build dist fastbp.egg-info fastbp/_core/_core.*.so .venv/built .venv-bench/built

.venv/built: $(SOURCES) .venv/has-build
	@echo "building fastbp"
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

# .venv/has-NAME: the packages that pyproject.toml lists under NAME are installed.
.venv/has-%: pyproject.toml .ci/wanted.py .venv/made
	@echo "installing what fastbp needs ($*)"
	@$(PY) .ci/wanted.py $* > .venv/wanted-$*.txt
	@$(PIP) install --requirement .venv/wanted-$*.txt
	@touch $@

.venv/made:
	@$(PYTHON) -c '' 2> /dev/null || { echo "fastbp needs Python 3.11 or newer:" \
	  "'$(PYTHON)' does not run (Debian: python3 python3-dev python3-venv)" >&2; exit 1; }
	@$(PYTHON) .ci/requirements.py
	@echo "making .venv"
	@$(PYTHON) -m venv .venv
	@touch $@

.venv-bench/built: $(SOURCES) .venv-bench/has-peers
	@echo "building fastbp for .venv-bench"
	@.venv-bench/bin/python -m pip --quiet --disable-pip-version-check install \
	  --no-build-isolation --no-deps --editable .
	@touch $@

.venv-bench/has-peers: pyproject.toml .ci/wanted.py
	@$(PYTHON) .ci/requirements.py
	@echo "making .venv-bench with PyTorch and JAX"
	@$(PYTHON) -m venv .venv-bench
	@for name in build bench peers; do .venv-bench/bin/python .ci/wanted.py $$name; done \
	  > .venv-bench/wanted.txt
	@.venv-bench/bin/python -m pip --quiet --disable-pip-version-check install \
	  --requirement .venv-bench/wanted.txt
	@touch $@

# Stamps that only other stamps ask for are kept as well.
.PRECIOUS: .venv/has-%
