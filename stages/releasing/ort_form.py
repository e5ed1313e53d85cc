"""`ort/`: the artifact in ONNX Runtime's own format, which its minimal builds for phones take, and what they must hold.

The graph is saved as ONNX Runtime rewrites it when it opens the artifact: a minimal build cannot.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from stages.releasing import onnx_forms, ort_format
from stages.releasing.source import Source
from stages.schema.variant import Float, Mixed, Precision, WeightOnly
from stages.targets.onnx_cpu import graph

FOLDER = "ort"
MODEL = f"{FOLDER}/model.ort"
OPERATORS = f"{FOLDER}/required_operators.config"


def why_not(precision: Precision) -> str | None:
    """Say why a precision has no such form: what ONNX Runtime evaluates at opening is evaluated in the saved graph."""
    match precision:
        case Float(bits=16) | WeightOnly(weight_bits=8):
            return "ONNX Runtime's format would hold the weights as fp32"
        case Mixed():
            return why_not(precision.low) or why_not(precision.high)
    return None


def write(source: Source, bundle: Path) -> dict[str, str]:
    """Write `ort/` and run its graph beside the artifact.

    Returns:
        What `limits.json` says of it.

    Raises:
        ArtifactError: the graph answers otherwise than the artifact.
    """
    content = ort_format.canonical(_saved(source.artifact / graph.MODEL))
    (bundle / FOLDER).mkdir()
    (bundle / MODEL).write_bytes(content)
    (bundle / OPERATORS).write_text(required(ort_format.operators(ort_format.read(content))), encoding="utf-8")
    check(source, bundle / MODEL)
    return {"path": MODEL, "required_operators": OPERATORS}


def check(source: Source, path: Path) -> None:
    """Run a written graph beside the artifact, which ONNX Runtime rewrites as it did when it saved the graph.

    Raises:
        ArtifactError: ONNX Runtime does not open it, or it answers otherwise.
    """
    session = onnx_forms.open_session(path.read_bytes(), MODEL)
    rewritten = onnx_forms.open_session((source.artifact / graph.MODEL).read_bytes(), graph.MODEL, rewrite=True)
    source.check(
        MODEL,
        lambda inputs: onnx_forms.answer(session, inputs),
        lambda inputs: onnx_forms.answer(rewritten, inputs),
        batches=True,
    )


def required(operators: Iterable[tuple[str, int, str]]) -> str:
    """List operators as ONNX Runtime's `--include_ops_by_config` reads them: a line of `domain;version;types`.

    Args:
        operators: domain, version and type of each.
    """
    versions: dict[str, set[str]] = {}
    for domain, version, kind in operators:
        versions.setdefault(f"{domain};{version}", set()).add(kind)
    return "".join(f"{key};{','.join(sorted(kinds))}\n" for key, kinds in sorted(versions.items()))


def _saved(model: Path) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.ort"
        onnx_forms.open_session(model.read_bytes(), graph.MODEL, rewrite=True, save=path)
        return path.read_bytes()
