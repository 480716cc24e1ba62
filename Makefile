# The front door. `make lab` opens the course, `make test` tests it, `make help` lists the rest.

VENV ?= .venv
EXTRAS ?= test,photos,weights,dev
PIP_FLAGS ?=
LAB_FLAGS ?=
PYTEST_FLAGS ?=
NOTEBOOKS ?= $(sort $(wildcard notebooks/*.ipynb))

PY = $(VENV)/bin/python
READY = $(VENV)/.ready
SUBMITTED ?=
# nbgrader adds menus to JupyterLab, so it is installed where one of its targets is called.
CLASSROOM = $(PY) -c 'import nbgrader' 2>/dev/null || $(PY) -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[classroom]'
# What makes the site is installed where the site is made.
SITE = $(PY) -c 'import sphinx, myst_nb, sphinx_book_theme' 2>/dev/null || $(PY) -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[site]'
# Threads that wait without spinning: on a busy machine spinning made torch up to ten times slower.
export OMP_WAIT_POLICY = passive

.DEFAULT_GOAL := help
.PHONY: help env lab test test-unit test-notebooks test-browser test-exercises test-homework test-site test-long test-all coverage lint format outputs \
  exercises homework site site-zip bench clean

help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

env: $(READY) ## make the environment in .venv, or bring it up to date
	@echo "The environment in $(VENV) is ready."

$(READY): pyproject.toml constraints.txt
	@if $(PY) -m pip --version >/dev/null 2>&1; then \
	  echo "== Bringing the environment in $(VENV) up to date"; \
	else \
	  found=; for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
	    if $$p -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$p; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "No Python 3.11 or newer with venv was found. Install one (Debian, Ubuntu: apt-get install python3 python3-venv)" \
	         "or name yours: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; \
	  fi; \
	  echo "== Making an environment in $(VENV) with $$($$found --version)"; \
	  if [ -e $(VENV)/pyvenv.cfg ]; then clear=--clear; else clear=; fi; \
	  $$found -m venv $$clear $(VENV) || exit 1; \
	fi
	@echo "== Installing the packages of pyproject.toml in the versions of constraints.txt (several GB the first time)"
	$(PY) -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

lab: $(READY) ## open the course in JupyterLab, at lesson 00
	@echo "== Opening JupyterLab on this machine; close it with Ctrl-C, twice"
	$(PY) -m jupyterlab --ServerApp.ip=127.0.0.1 --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb \
	  $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_FLAGS)

test: test-unit test-notebooks ## unit tests, then every lesson executed

test-unit: $(READY) ## the unit tests alone
	@echo "== Unit tests"
	$(PY) -m pytest -rs $(PYTEST_FLAGS) tests

test-notebooks: $(READY) ## every lesson executed by nbval, without photographs (NOTEBOOKS=... chooses)
	@echo "== Lessons, each from a fresh kernel"
	MTL_COURSE_DATA=none $(PY) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=120 --durations=5 \
	  $(PYTEST_FLAGS) $(NOTEBOOKS)

test-browser: $(READY) ## every lesson run in a real JupyterLab in Chromium
	$(PY) -m pytest -m browser -rs $(PYTEST_FLAGS) tests

test-exercises: $(READY) ## the checks against right and wrong answers, and the notebooks that use them
	@$(CLASSROOM)
	$(PY) -m pytest -m "exercises and not long" -rs $(PYTEST_FLAGS) tests

test-homework: $(READY) ## the whole loop of graded homework, with honest and dishonest submissions
	@$(CLASSROOM)
	$(PY) -m pytest -m homework -rs $(PYTEST_FLAGS) tests

test-site: $(READY) ## the pages of the site, in Chromium too
	@$(SITE)
	$(PY) -m pytest -m site -rs $(PYTEST_FLAGS) tests

test-long: $(READY) ## the tests that take hours or many repeats
	$(PY) -m pytest -m long $(PYTEST_FLAGS) tests

test-all: lint test test-browser test-site test-exercises test-homework ## all of these but test-long

coverage: $(READY) ## which lines of the package the unit tests and those of the exercises run
	@$(CLASSROOM)
	$(PY) -m coverage run -m pytest -m "not browser and not homework and not site and not long" $(PYTEST_FLAGS) tests
	$(PY) -m coverage combine -q && $(PY) -m coverage report --skip-covered --show-missing

lint: $(READY) ## check the style of code and the outputs of notebooks
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) tools/check_notebooks.py
	$(PY) tools/count_lines.py

format: $(READY) ## mend the style of code
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

outputs: $(READY) ## execute the lessons afresh and store their outputs (NOTEBOOKS=... chooses)
	$(PY) tools/execute_notebooks.py $(NOTEBOOKS)

exercises: $(READY) ## make notebooks/exercises from notebooks/solutions, and MISTAKES.md from the wrong answers
	@$(CLASSROOM)
	$(PY) tools/make_exercises.py
	$(PY) tools/mistakes_table.py

homework: $(READY) ## make the students' homework; with SUBMITTED=folder grade what was handed in, each submission apart
	@$(CLASSROOM)
	$(PY) tools/homework.py $(if $(SUBMITTED),"$(SUBMITTED)")

site: $(READY) ## make the site in build/site: lessons with outputs, exercises, reference; it needs no network
	@$(SITE)
	$(PY) tools/make_site.py

site-zip: $(READY) ## make the site, and pack it into build/mtl_course-site.zip
	@$(SITE)
	$(PY) tools/make_site.py --zip

bench: $(READY) ## run the measurements in benchmarks/ (not lesson04_seeds.py and voc_model, voc_peer, voc_run, which train models)
	@for f in $(filter-out benchmarks/lesson% benchmarks/voc_model.py benchmarks/voc_peer.py benchmarks/voc_run.py benchmarks/_%,$(wildcard benchmarks/*.py)); do echo "== $$f"; $(PY) "$$f" || exit 1; done

clean: ## remove caches and build leavings; the environment, data and runs stay
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path './$(VENV)' -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +
