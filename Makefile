# make figures   the default study, from nothing to its figures
# make report    the same, and report.html with its figures and tables, to hand on
# make test      all tests
# make test-quick  those that take about a minute in all, for daily work
# make docs      the documentation, in docs/_build/html
# All set up what they need in .venv, from the pinned locks, and need Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Libraries that tests/peers and the benchmarks compare with.
PEERS := .venv-peers
# What builds the documentation.
DOCS := .venv-docs
# Extra options for pip, e.g. an index with CPU builds of PyTorch.
PIP_OPTIONS ?=
CORES ?= all
# Extra options for Snakemake.
OPTIONS ?=

.PHONY: figures report test test-quick test-peers test-slurm chaos check-results slurm lint docs notebook \
  bench-training bench-scale bench-caching lock clean-env

figures: $(VENV)/.run
	$(BIN)/snakemake --cores $(CORES) $(OPTIONS)

# Another study: make report OPTIONS="--configfile presets/quick.yaml".
report: figures
	$(BIN)/snakemake $(OPTIONS) --report report.html

# Two files of tests at a time, the costliest first.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25

# For daily work: the library, without what starts processes or takes long.
test-quick: $(VENV)/.dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

# Files of SAELens, dictionary_learning and sparsify, written and read by those libraries and ours.
test-peers: $(PEERS)/.done
	$(PEERS)/bin/python -m pytest tests/peers

# On a SLURM cluster of one node, which it sets up on this machine: for root, in a container.
test-slurm: $(VENV)/.dev slurm
	tests/slurm/run

# What profiles/slurm needs.
slurm: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -r requirements-slurm.lock

# Kill the tiny preset over and over; KILLS and SEED say how often and when.
KILLS ?= 100
SEED ?= 0
chaos: $(VENV)/.dev
	$(BIN)/python tests/chaos.py --kills $(KILLS) --seed $(SEED)

# Recompute the numbers of figures and tables from the HDF5 files of all finished studies.
check-results: $(VENV)/.run
	$(BIN)/python tests/check_results.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint
	$(BIN)/basedpyright
	$(BIN)/oxlint --deny-warnings

docs: $(DOCS)/.done
	$(DOCS)/bin/python -m sphinx --fail-on-warning --quiet docs docs/_build/html

# docs/tutorial.ipynb anew, from docs/tutorial.md.
notebook: $(VENV)/.dev
	$(BIN)/python docs/notebook.py

# Sphinx imports the library, so it has to see what that needs: the packages in $(VENV) are seen
# from here, and not installed a second time.
$(DOCS)/.done: $(VENV)/.dev requirements-docs.lock
	$(PYTHON) -m venv $(DOCS)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > "$$($(DOCS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/workflow.pth"
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -r requirements-docs.lock
	touch $@

$(VENV)/.run: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name it with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -r requirements.lock
	touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -r requirements-dev.lock
	touch $@

# Training side by side with SAELens and dictionary_learning, on the default study's activations.
# The speed of ReLU, JumpReLU and Gated follows their L0, so theirs are whole runs: about two hours.
bench-training: $(VENV)/.run $(PEERS)/.done
	$(BIN)/snakemake --cores $(CORES) --until cache_activations
	$(PEERS)/bin/python benchmarks/training.py all --architecture topk batchtopk --d-sae 2304 9216
	$(PEERS)/bin/python benchmarks/training.py all --architecture relu jumprelu gated --steps 800 --repeats 1

$(PEERS)/.done: benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -r $<
	# nnsight asks for torchvision, whose CUDA build breaks transformers beside a CPU torch; no
	# library needs it here.
	$(PEERS)/bin/python -m pip uninstall --quiet --yes torchvision
	touch $@

# Every step at the paper's largest size, on synthetic dictionaries. SHARES=8 is an eighth alone.
SHARES ?= 8 4 2 1
bench-scale: $(VENV)/.run
	$(BIN)/python benchmarks/scale.py all --shares $(SHARES)

# Caching beside the bare Hugging Face model and SAELens, on the default study's model.
bench-caching: $(VENV)/.run $(PEERS)/.done
	$(BIN)/snakemake --cores $(CORES) --until prepare_gguf_model
	$(BIN)/python benchmarks/caching.py results/smollm2-wikipedia/models/smollm2-135m --peers $(PEERS)/bin/python

# Resolve the chosen versions of requirements*.in with all that they need.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet $(PIP_OPTIONS) -r requirements.in
	.venv-lock/bin/python -m pip freeze | sed 's/+cpu$$//' > requirements.lock
	.venv-lock/bin/python -m pip install --quiet $(PIP_OPTIONS) -r requirements-dev.in
	{ echo "-r requirements.lock"; .venv-lock/bin/python -m pip freeze | sed 's/+cpu$$//' | \
	  grep -vxFf requirements.lock; } > requirements-dev.lock
	.venv-lock/bin/python -m pip install --quiet $(PIP_OPTIONS) -r requirements-docs.in
	{ echo "-r requirements-dev.lock"; .venv-lock/bin/python -m pip freeze | sed 's/+cpu$$//' | \
	  grep -vxF -f requirements.lock -f requirements-dev.lock; } > requirements-docs.lock
	rm -rf .venv-lock

clean-env:
	rm -rf $(VENV)
