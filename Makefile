# Every target is one line of real work. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help repro test lint bench bench-generate bench-peers tensorflow-check sweep-ray-check clients clients-browser demo ui clean
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Tiny models lose more to thread hand-over than they gain from a second core.
export OMP_NUM_THREADS ?= 1
# Tools that a target runs without `stages`: the MLflow UI, DVC outside this repository's .dvc/config.
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
# Not compiled: that takes longer than all else of an installation, and Python compiles what it imports.
PIP := -m pip install --disable-pip-version-check --quiet --no-compile
INSTALLED := .venv/installed
TENSORFLOW := .venv-tensorflow/installed
RAY := .venv-ray/installed
PEERS := .venv-olive/installed .venv-optimum/installed
NODE := .venv-clients/node/installed
CLIENTS := .venv-clients/mediapipe/installed .venv-clients/optimum/installed .venv-clients/tflite/installed .venv-clients/micro/installed .venv-clients/genai/installed .venv-clients/litertlm/installed $(NODE)

# What would be emptied through a link is somebody else's.
own = @for place in $(1); do if [ -L $$place ]; then \
	echo "error: '$$place' is a link to '$$(readlink $$place)', which would be emptied; next: remove the link, then rerun" >&2; \
	exit 1; fi; done

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

$(INSTALLED): constraints.txt
	$(call own,.venv)
	python3 -m venv --clear .venv
	python $(PIP) --requirement constraints.txt
	touch $@

# Beside TensorFlow coremltools takes up to a minute to import, so it lives in an environment of its own.
$(TENSORFLOW): constraints-tensorflow.txt
	$(call own,.venv-tensorflow)
	python3 -m venv --clear .venv-tensorflow
	.venv-tensorflow/bin/python $(PIP) --requirement constraints-tensorflow.txt
	touch $@

# Laid over .venv: Ray's launcher wants an older cloudpickle than joblib, and nothing else differs.
$(RAY): constraints-ray.txt $(INSTALLED)
	$(call own,.venv-ray)
	python3 -m venv --clear .venv-ray
	.venv-ray/bin/python $(PIP) --no-deps --requirement constraints-ray.txt
	for site in .venv/lib/python3*/site-packages; do echo "$(CURDIR)/$$site" > .venv-ray/$${site#.venv/}/over.pth; done
	touch $@

# The clients that apps use, each with the versions it wants.
.venv-clients/mediapipe/installed .venv-clients/tflite/installed .venv-clients/micro/installed .venv-clients/litertlm/installed: .venv-clients/%/installed: constraints-clients-%.txt
	$(call own,.venv-clients $(@D))
	python3 -m venv --clear $(@D)
	$(@D)/bin/python $(PIP) --requirement $<
	touch $@

# Laid over .venv, whose torch and ONNX Runtime they share: Optimum wants transformers 4.
.venv-clients/optimum/installed .venv-clients/genai/installed: .venv-clients/%/installed: constraints-clients-%.txt $(INSTALLED)
	$(call own,.venv-clients $(@D))
	python3 -m venv --clear $(@D)
	$(@D)/bin/python $(PIP) --no-deps --requirement $<
	for site in .venv/lib/python3*/site-packages; do echo "$(CURDIR)/$$site" > $(@D)/$${site#.venv/}/over.pth; done
	touch $@

# No install scripts: onnxruntime-node's downloads a GPU build from elsewhere, and its CPU build is in the package.
$(NODE): stages/asking/javascript/package.json stages/asking/javascript/package-lock.json
	$(call own,.venv-clients $(@D) $(@D)/node_modules)
	mkdir -p $(@D) && cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --silent
	touch $@

# Olive and Optimum ask for different releases of transformers.
$(PEERS): .venv-%/installed: constraints-%.txt
	$(call own,.venv-$*)
	python3 -m venv --clear .venv-$*
	.venv-$*/bin/python $(PIP) --requirement $<
	touch $@

repro: $(INSTALLED)  ## build, check, measure, gate, track and release every variant
	@dvc repro; code=$$?; python -m stages.summary --build build --code $$code; exit $$code

# Without npm the tests of the clients skip, and say why. Three processes for two cores: builds, servers and locks wait.
test: $(INSTALLED) $(if $(shell command -v npm),$(CLIENTS))  ## all three tiers of tests
	pytest --numprocesses 3 --dist loadscope --no-loadscope-reorder

lint: $(INSTALLED)  ## ruff and mypy
	ruff check && ruff format --check && mypy

bench: $(INSTALLED)  ## interleaved latency of the built artifacts (`python -m benchmarks.build`: cost per stage)
	python -m benchmarks.artifacts --build build

bench-peers: $(INSTALLED) $(PEERS)  ## Olive's and Optimum's artifacts of the same checkpoints beside ours (docs/peers.md)
	python -m benchmarks.peers --build build

# llama.cpp is built from its sources: nine minutes of one core.
.venv-llama/installed: constraints-llama.txt
	$(call own,.venv-llama)
	python3 -m venv --clear .venv-llama
	.venv-llama/bin/python $(PIP) --requirement $<
	touch $@

bench-generate: $(INSTALLED) .venv-clients/genai/installed $(if $(GGUF),.venv-llama/installed)  ## language models beside torch, onnxruntime-genai and, with GGUF=FILE, llama.cpp
	python -m benchmarks.generate $(if $(GGUF),--gguf $(GGUF))

tensorflow-check: $(INSTALLED) $(TENSORFLOW)  ## ask TensorFlow's interpreter about every TFLite artifact, show it in the report
	.venv-tensorflow/bin/python -m stages.second_opinion --build build --items 500
	dvc repro --force --single-item report

sweep-ray-check: $(RAY)  ## a sweep of two jobs on a local Ray cluster
	RAY_USAGE_STATS_ENABLED=0 .venv-ray/bin/python -m stages.sweep compression=none target=onnx-cpu precision=fp32,dynamic_wi8_afp32 \
		sweep.name=ray hydra/launcher=ray

clients: $(INSTALLED) $(CLIENTS)  ## ask the clients that apps use about every bundle, show it in the report
	@python -m stages.ask --build build; code=$$?; dvc repro --force --single-item report clone/dvc.yaml:promote || code=1; exit $$code

clients-browser: $(INSTALLED) $(NODE)  ## the same of those that run in a browser (needs Chromium)
	@python -m stages.ask --build build --browser; code=$$?; dvc repro --force --single-item report clone/dvc.yaml:promote || code=1; exit $$code

demo: $(INSTALLED) $(NODE)  ## one page that classifies what is typed into it, offline; the report links it
	python -m stages.demo --release build/release --modules .venv-clients/node/node_modules --out build/demo
	dvc repro --force --single-item report

ui: $(INSTALLED)  ## the MLflow UI on loopback
	mlflow ui --host 127.0.0.1 --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///mlruns/mlflow.db}

clean:  ## forget every build product, the cache included
	rm -rf build .dvc/cache .dvc/tmp dvc.lock clone/dvc.lock mlruns
