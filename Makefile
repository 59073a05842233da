# On a bare machine with python3 and make: `make demo` or `make test`.
# Plain `make` lists the targets.

PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
CONSTRAINTS ?= constraints.txt
JOBS ?= 2
DEMO ?= runs/demo

BIN = $(VENV)/bin
CPU = JAX_PLATFORMS=cpu
PYTEST = $(CPU) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal
UV := $(shell command -v uv 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-peers devices slow lint types docs smoke presets \
	wheel tried-wheel results format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1@\2/p' $(firstword $(MAKEFILE_LIST)) \
		| tr '@' '\t' | expand -t 14

demo: $(VENV)/.installed ## install, then train a small VAE, evaluate it and draw its pictures
	$(BIN)/python scripts/train.py vae --workdir $(DEMO)
	$(BIN)/python scripts/evaluate.py $(DEMO)
	$(BIN)/python scripts/sample.py $(DEMO) --sampler gmm --components 40 --temperature 0.8 \
		--num 64 --out $(DEMO)/samples.png
	$(BIN)/python scripts/plot.py $(DEMO)
	@printf '%s\n' '' 'A variational autoencoder is trained. $(DEMO) now holds'
	@ls -1p $(DEMO) | sed 's/^/  /'
	@printf '%s\n' 'To try next:' \
		'  $(BIN)/python scripts/train.py --help        the presets' \
		'  $(BIN)/python scripts/train.py vae --help    the options of this one' \
		'  $(BIN)/python scripts/train.py vae --beta 4 --workdir runs/beta4'

test: lint types ## style, types and the fast tests, on the CPU: must pass before a commit
	$(PYTEST) -m "not slow and not devices"

test-all: test devices slow ## make test, and all that takes long: devices, whole runs, pages, notebooks, hosts

devices: $(VENV)/.installed-test
	NPROC=16 JAX_NUM_CPU_DEVICES=8 $(PYTEST) -m devices

slow: $(VENV)/.installed-test
	$(PYTEST) -o addopts= -m "slow and not devices"  # make test checks the shapes

test-peers: $(VENV)/.installed $(PEERS)/.installed ## metrics and autoencoders against other implementations, in an environment with PyTorch
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		$(CPU) $(BIN)/python tests/peers/ours.py "$$folder" && \
		PEERS_FOLDER="$$folder" $(PEERS)/bin/python -m pytest tests/peers

lint: $(VENV)/.installed-dev ## style: ruff's rules and its format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-dev ## types: basedpyright
	$(BIN)/basedpyright --pythonpath $(BIN)/python

docs: $(VENV)/.installed-docs ## the documentation as a site, in site/: a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo 'site/index.html is written; to search it: python3 -m http.server -d site'

results: $(VENV)/.installed ## RESULTS.md and the README's table, from results/rows
	PYTHONPATH=. $(CPU) $(BIN)/python docs/make_results.py

smoke: ## steps and metrics of a preset of each family on the newest Python of this machine
	@python=$$($(FIND_NEWEST)); \
	if [ -z "$$python" ]; then \
		echo "smoke: no working Python 3.12 or newer here, so nothing to try"; \
	else \
		echo "smoke: $$python"; \
		$(MAKE) --no-print-directory PYTHON="$$python" VENV=.venv-newest presets; \
	fi

# The first of each module of presets; make test tries all, and their queries, on python3.
FIRSTS = from vaejax.presets import FAMILIES; from vaejax.presets.signature import presets_of; \
	firsts = [next(iter(presets_of(module))) for each in FAMILIES.values() for module in each]; \
	print(" or ".join(f"[{name}]" for name in firsts))

presets: $(VENV)/.installed-test
	firsts=$$($(CPU) $(BIN)/python -c '$(FIRSTS)') && \
		$(PYTEST) -m "not devices" -k "not queries and not raw_inputs and ($$firsts)" tests/test_presets.py

wheel: $(VENV)/.installed-test ## build the distributions and try the wheel in an empty environment
	rm -rf build dist
	$(BIN)/python -m build --outdir dist . >/dev/null
	@$(MAKE) --no-print-directory VENV=.venv-wheel tried-wheel

# Away from the checkout, where only what the wheel holds is found.
tried-wheel:
	@rm -rf $(VENV) && $(CREATE) && $(PIP_INSTALL) -c $(CONSTRAINTS) dist/*.whl
	@folder=$$(mktemp -d) && bin=$$(cd $(BIN) && pwd) && cd "$$folder" && export $(CPU) && \
	"$$bin/vaejax" --version && "$$bin/vaejax" train vae --cite >/dev/null && \
	"$$bin/vaejax" train vae --dataset digits --hidden 16 --latents 2 --epochs 2 --workdir run && \
	"$$bin/vaejax" evaluate run --samples 10 && "$$bin/vaejax" sample run --num 16 --out samples.png && \
	ls -1 run/report.html samples.png && rm -rf "$$folder"

format: $(VENV)/.installed-dev ## rewrite the code in ruff's format and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove the environments and the caches, never runs/
	rm -rf .venv .venv-newest .venv-peers .venv-wheel .pytest_cache .ruff_cache build dist \
		site *.egg-info
	find . \( -path ./runs -o -path ./.git \) -prune -o \
		-type d -name __pycache__ -prune -exec rm -rf {} +

# The stamps: an environment is installed once, and again when its versions change.

REQUIREMENTS = setup.cfg pyproject.toml $(CONSTRAINTS)

$(VENV)/.installed: $(REQUIREMENTS)
	$(call install,.)
	@touch $@

$(VENV)/.installed-test: $(REQUIREMENTS)
	$(call install,.[test])
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(REQUIREMENTS)
	$(call install,.[docs])
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: $(REQUIREMENTS)
	$(call install,.[dev])
	@touch $(VENV)/.installed $(VENV)/.installed-test $(VENV)/.installed-docs $@

# Always by pip: what it is configured with decides which build of torch it takes.
PEERS_PIP = $(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check

$(PEERS)/.installed: tests/peers/requirements.txt tests/peers/requirements-alone.txt
	@$(CHECK_PYTHON)
	@echo "Installing PyTorch and other peers into $(PEERS)"
	@$(CREATE_PEERS) && $(PEERS_PIP) -r tests/peers/requirements.txt \
		&& $(PEERS_PIP) --no-deps -r tests/peers/requirements-alone.txt
	@touch $@

define install
	@$(CHECK_PYTHON)
	@echo "Installing vaejax ($(1)) into $(VENV): a few minutes the first time"
	@$(CREATE) && $(PIP_INSTALL) -c $(CONSTRAINTS) -e '$(1)'
endef

ifdef UV
CREATE = uv venv --quiet --allow-existing --python "$(PYTHON)" $(VENV)
CREATE_PEERS = uv venv --quiet --seed --allow-existing --python "$(PYTHON)" $(PEERS)
PIP_INSTALL = uv pip install --quiet --python $(BIN)/python
else
CREATE = "$(PYTHON)" -m venv $(VENV)
CREATE_PEERS = "$(PYTHON)" -m venv $(PEERS)
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

define CHECK_PYTHON
	fail() { echo "$$1" >&2; exit 1; }; \
	version=$$("$(PYTHON)" -c 'import sys; print(sys.version.split()[0])' 2>/dev/null) \
		|| fail "vaejax needs Python 3.11 or newer, and $(PYTHON) does not run here"; \
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| fail "vaejax needs Python 3.11 or newer, and $(PYTHON) is $$version: name a newer one, as in make demo PYTHON=python3.12"; \
	test -n "$(UV)" || "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null \
		|| fail "$(PYTHON) cannot make environments: apt install python3-venv, or install uv"
endef

# A name on the PATH may be a shim that fails when run, so every candidate is tried;
# pyenv's own Pythons count too, selected or not.
define FIND_NEWEST
	for minor in 20 19 18 17 16 15 14 13 12; do \
		for python in python3.$$minor \
			"$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.$$minor.[0-9]*/bin/python3; do \
			"$$python" -c 'import sys, venv, ensurepip; assert sys.version_info.releaselevel == "final"; print(sys.executable)' 2>/dev/null \
				&& exit 0; \
		done; \
	done
endef
