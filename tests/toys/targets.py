"""The settings of conf/target, for tests that convert or quantise."""

from typing import Any

import yaml

from stages.core.closure import ROOT
from stages.schema.variant import CoremlMetal, TfliteNnapi


def tflite(**changes: object) -> TfliteNnapi:
    """Read conf/target/tflite-nnapi.yaml, with some settings changed."""
    return TfliteNnapi(**_settings("tflite-nnapi") | changes)


def coreml(**changes: object) -> CoremlMetal:
    """Read conf/target/coreml-metal.yaml, with some settings changed."""
    return CoremlMetal(**_settings("coreml-metal") | changes)


def _settings(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / f"conf/target/{name}.yaml").read_text(encoding="utf-8"))
