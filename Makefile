# The template's own commands. The generated project has a Makefile of its own.
PYTHON := $(firstword $(foreach name,python3.11 python3.12 python3.13 python3.14 python3,$(shell $(name) -c "import sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null && echo $(name))))
TOOLS := .venv/bin
DEMO := demo/handwritten-digits

.DEFAULT_GOAL := help
.PHONY: help demo test soak attacks bench quick lint format structure lock wheel clean

help: ## Show what there is to make
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

demo: .venv/.installed $(DEMO) ## Generate a project into demo/ and train in it
	@$(MAKE) --no-print-directory -C $(DEMO) train

$(DEMO):
	@$(TOOLS)/cookiecutter . --no-input --output-dir demo

test: lint .venv-validators/.installed ## Run all tests of both houses: generate, train, containers (half an hour)
	@$(MAKE) --no-print-directory -C library lint test
	@$(TOOLS)/python -m pytest --numprocesses 2 --dist loadfile $(ARGS)

soak: .venv/.installed .venv-validators/.installed ## Kill a hundred runs, and thirty of each command; all attacks; emulated processors (some hours; 2 GB in /tmp)
	@$(MAKE) --no-print-directory -C library soak
	@$(TOOLS)/python -m tests.attacks
	@$(TOOLS)/python -m tests.attacks --real

attacks: .venv/.installed .venv-validators/.installed ## Try all attacks of both houses, and print a table (an hour; ARGS=--real interrupts real installations)
	@$(MAKE) --no-print-directory -C library .venv/.installed
	@$(TOOLS)/python -m tests.attacks $(ARGS)

bench: .venv/.installed ## Measure what things cost, side by side, and write docs/performance.md (half an hour; ARGS=throughput)
	@$(TOOLS)/python -m bench $(ARGS)

quick: lint .venv-validators/.installed ## Run the tests that only generate (seconds)
	@$(TOOLS)/python -m pytest -m "not project and not container" $(ARGS)

lint: .venv/.installed ## Check style and types of the template's own Python and shell
	@$(TOOLS)/ruff check --config pyproject.toml
	@$(TOOLS)/ruff format --check --config pyproject.toml
	@cd library && ../$(TOOLS)/ruff check && ../$(TOOLS)/ruff format --check
	@$(TOOLS)/mypy
	@$(TOOLS)/shellcheck --exclude=SC1091 .ci/run "{{cookiecutter.project_slug}}"/requirements/*.sh

format: .venv/.installed ## Mend the style
	@$(TOOLS)/ruff check --fix --config pyproject.toml
	@$(TOOLS)/ruff format --config pyproject.toml

structure: .venv/.installed ## Count files and lines of both houses, and check the seams between them
	@$(TOOLS)/python -m tests.structure

lock: .venv/.installed ## Pin the newest tools, with hashes
	@$(TOOLS)/pip install --quiet --require-hashes -r "{{cookiecutter.project_slug}}/requirements/uv.txt"
	@$(TOOLS)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--upgrade requirements.in --output-file requirements.txt
	@$(TOOLS)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--upgrade validators.in --output-file validators.txt

wheel: .venv/.installed ## Build library/ into the wheel that projects get, and lock it by its hash
	@$(TOOLS)/python -m vendoring

clean: ## Remove the tools and demo/
	rm -rf .venv .venv-validators demo .mypy_cache .ruff_cache .pytest_cache

.venv-validators/.installed: validators.txt .venv/.installed
	@$(TOOLS)/python -m venv --clear .venv-validators
	@.venv-validators/bin/pip install --quiet --disable-pip-version-check --require-hashes -r validators.txt
	@touch $@

.venv/.installed: requirements.txt
	@[ -n "$(PYTHON)" ] || { echo "error: Python 3.11 or newer was not found: install it, then run make again." >&2; exit 2; }
	@$(PYTHON) -m venv --clear .venv
	@$(TOOLS)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	@touch $@
