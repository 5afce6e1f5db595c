# make demo    segment a simulated, incomplete study and draw it
# make test    style, types and tests
# make server  what the MONAI Label server needs; then .venv/bin/lckd serve STUDIES
# Both make the environment they need in .venv; nothing but Python >= 3.10 and a package index is assumed.

PYTHON ?= python3
TORCH ?= torch==2.13.0
# Without an NVIDIA GPU the CPU build of torch is a tenth of the size; where its index is out of reach, the default one serves.
TORCH_INDEX ?= $(shell command -v nvidia-smi >/dev/null 2>&1 || echo https://download.pytorch.org/whl/cpu)
DEMO ?= demo
BIN := .venv/bin

.PHONY: demo test check server clean

demo: .venv/run.done
	$(BIN)/lckd demo --output $(DEMO)

test: .venv/test.done .venv/server.done check
	$(BIN)/python -m pytest

check: .venv/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

server: .venv/server.done

clean:
	rm -rf .venv $(DEMO)

.venv/torch.done:
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10) and 'Python >= 3.10 is needed, $(PYTHON) is ' + sys.version)"
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(BIN)/pip install -q --retries 1 --timeout 15 --index-url $(TORCH_INDEX) $(TORCH) 2>/dev/null ||) $(BIN)/pip install -q $(TORCH)
	touch $@

.venv/run.done: .venv/torch.done requirements.txt pyproject.toml
	$(BIN)/pip install -q -r requirements.txt
	$(BIN)/pip install -q --no-deps -e .
	touch $@

.venv/test.done: .venv/run.done requirements-test.txt
	$(BIN)/pip install -q -r requirements-test.txt
	touch $@

# MONAI Label's own list of packages would replace torch and break the start: see requirements-server.txt.
.venv/server.done: .venv/run.done requirements-server.txt
	$(BIN)/pip install -q -r requirements-server.txt
	$(BIN)/pip install -q --no-deps monailabel==0.8.5
	touch $@
