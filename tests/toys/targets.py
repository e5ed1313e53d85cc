"""The settings of conf/target, for tests that convert or quantise."""

import yaml

from stages.core.closure import ROOT
from stages.schema.variant import TfliteNnapi


def tflite(**changes: object) -> TfliteNnapi:
    """Read conf/target/tflite-nnapi.yaml, with some settings changed."""
    settings = yaml.safe_load((ROOT / "conf/target/tflite-nnapi.yaml").read_text(encoding="utf-8"))
    return TfliteNnapi(**settings | changes)
