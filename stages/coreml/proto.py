"""coremltools' protobuf definitions without coremltools: importing the package costs 4 to 14 s and 300 MB of torch."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from stages.core.errors import ConfigError
from stages.coreml.errors import Malformed, UnsupportedOp

_STUB = "_tinsmith_coreml_proto"
MAX_MODEL_BYTES = 1 << 30
"""Larger than any program: weights lie in the weight file, and protobuf itself stops at 2 GiB."""


@functools.cache
def definitions() -> Any:
    """Load `Model_pb2` by path under a stub package.

    Raises:
        ConfigError: coremltools is not installed.
    """
    spec = importlib.util.find_spec("coremltools")  # finds the package without running it
    if spec is None or spec.origin is None:
        raise ConfigError("coremltools is not installed", next_step="pip install coremltools")
    stub = types.ModuleType(_STUB)
    stub.__path__ = [str(Path(spec.origin).parent / "proto")]
    sys.modules[_STUB] = stub
    return importlib.import_module(f"{_STUB}.Model_pb2")


def model_file(package: Path) -> Path:
    """Return the model file that a package's Manifest.json names as its root.

    Raises:
        Malformed: no readable manifest, or one that points outside the package.
    """
    manifest = package / "Manifest.json"
    try:
        tree = json.loads(manifest.read_text(encoding="utf-8"))
        relative = PurePosixPath(tree["itemInfoEntries"][tree["rootModelIdentifier"]]["path"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Malformed(f"cannot read '{manifest}': {error}", expected="the manifest of an .mlpackage") from error
    if relative.is_absolute() or ".." in relative.parts:
        raise Malformed(f"'{manifest}' points outside the package: '{relative}'")
    return package / "Data" / relative


def read_model(path: Path) -> Any:
    """Parse a model file.

    Returns:
        The `Model` message, whose type is `mlProgram`.

    Raises:
        Malformed: absent, truncated or not a protobuf.
        UnsupportedOp: another kind of Core ML model (neural network, pipeline).
    """
    message = definitions().Model()
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise Malformed(f"'{path}' is {size} bytes", expected=f"at most {MAX_MODEL_BYTES}")
        message.ParseFromString(path.read_bytes())
    except OSError as error:
        raise Malformed(f"cannot read '{path}': {error.strerror}") from error
    except (DecodeError, ValueError) as error:
        raise Malformed(f"'{path}' is not a Core ML model: {error}") from error
    kind = message.WhichOneof("Type")
    if kind != "mlProgram":
        raise UnsupportedOp(f"'{path}' holds '{kind or 'no model'}'", expected="an ML program (.mlpackage)")
    return message
