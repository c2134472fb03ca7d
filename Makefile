# Everything a newcomer needs: `make demo`, `make test`, `make check`, `make down`.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV_VERSION := 0.13.9
# torch without CUDA: from a folder of wheels where pip is told of one, else from the project's own index of CPU builds.
WHEELS = $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
TORCH = $(if $(WHEELS),--find-links $(WHEELS),--torch-backend cpu)

# Dozens of processes are started; none of them shall compile its libraries anew, wherever the environment says so.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo down test check setup system lock clean

demo: setup  ## Set up, then run the whole story and leave the services up.
	@$(BIN)/ftl demo var/demo

down:  ## Stop what `make demo` started.
	@if [ -x $(BIN)/ftl ]; then $(BIN)/ftl down var/demo; else echo "nothing to stop: $(BIN)/ftl is not installed"; fi

test: setup system  ## Set up, then run all tests, those with real services included.
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/end_to_end
	$(BIN)/python -m pytest tests/end_to_end

check: setup  ## Format, lint, types, room order, docstrings.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "ftl needs Python 3.11: install it, or say where it is with 'make PYTHON=/path/to/python3.11 …'" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "installing locked packages into $(VENV) …"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python $(TORCH) --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

system:  ## Programs that tests start: servers of databases and a browser.
	@missing=""; \
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || missing="$$missing postgresql"; \
	command -v mariadbd >/dev/null || ls /usr/sbin/mariadbd >/dev/null 2>&1 || missing="$$missing mariadb-server"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	test -z "$$missing" || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing for the tests:$$missing …"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	  else echo "the tests need these packages (Debian, Ubuntu), install them and run again:$$missing" >&2; exit 1; fi; }

lock: setup  ## Resolve the dependencies anew.
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links $(TORCH) pyproject.toml -o requirements.lock

clean: down  ## Remove the environment and all that was made.
	rm -rf $(VENV) var
