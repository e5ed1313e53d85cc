# Every target is one line of real work. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help repro test lint bench tensorflow-check ui clean
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Tiny models lose more to thread hand-over than they gain from a second core.
export OMP_NUM_THREADS ?= 1
# Tools that a target runs without `stages`: the MLflow UI, DVC outside this repository's .dvc/config.
export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
INSTALLED := .venv/installed
TENSORFLOW := .venv-tensorflow/installed

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

$(INSTALLED): constraints.txt
	python3 -m venv --clear .venv
	python -m pip install --disable-pip-version-check --quiet --requirement constraints.txt
	touch $@

# Beside TensorFlow coremltools takes up to a minute to import, so it lives in an environment of its own.
$(TENSORFLOW): constraints-tensorflow.txt
	python3 -m venv --clear .venv-tensorflow
	.venv-tensorflow/bin/python -m pip install --disable-pip-version-check --quiet --requirement constraints-tensorflow.txt
	touch $@

repro: $(INSTALLED)  ## build, check, measure, gate, track and release every variant
	@dvc repro; code=$$?; python -m stages.summary --verdicts build/verdicts.json --report build/report/index.html --code $$code; exit $$code

test: $(INSTALLED)  ## all three tiers of tests
	pytest --numprocesses 2 --dist loadfile

lint: $(INSTALLED)  ## ruff and mypy
	ruff check && ruff format --check && mypy

bench: $(INSTALLED)  ## interleaved latency of the built artifacts (`python -m benchmarks.build`: cost per stage)
	python -m benchmarks.artifacts --build build

tensorflow-check: $(INSTALLED) $(TENSORFLOW)  ## ask TensorFlow's interpreter about every TFLite artifact, show it in the report
	.venv-tensorflow/bin/python -m stages.second_opinion --build build --items 500
	dvc repro --force --single-item report

ui: $(INSTALLED)  ## the MLflow UI on loopback
	mlflow ui --host 127.0.0.1 --backend-store-uri $${MLFLOW_TRACKING_URI:-sqlite:///mlruns/mlflow.db}

clean:  ## forget every build product, the cache included
	rm -rf build .dvc/cache .dvc/tmp dvc.lock mlruns
