"""Tinsmith's stages: `python -m stages.NAME` runs one; `dvc repro` runs them all."""
