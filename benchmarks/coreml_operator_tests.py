"""Run the operator tests that ship with coremltools, with our executor in place of Core ML's `predict`.

`python -m benchmarks.coreml_operator_tests [PATTERN ...] [-- PYTEST ARGS]` prints passed, refused and failed. Apple
wrote the tests and their expected values; on Linux they normally stop before predicting. `refused` are programs that
use an operation or setting the executor has no definition of; each is listed with its count.
"""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stages.coreml import Program, open_program
from stages.coreml.dtypes import FP16
from stages.coreml.errors import ProgramError, UnsupportedOp
from stages.coreml.executor import MODES, Mode
from stages.coreml.values import TensorType

_HIDDEN = ("sklearn", "tensorflow", "tensorflow.compat.v1", "xgboost", "libsvm", "torchao", "executorch")
SUITES = ("iOS14", "iOS15", "iOS16", "iOS17", "iOS18", "coreml_dialect")


class Tally:
    """What happened, over all tests of a run."""

    def __init__(self) -> None:
        self.predictions = 0
        self.mode: Mode = "exact"
        self.compare: Callable[..., Any] = lambda *_, **__: None
        self.operations: collections.Counter[str] = collections.Counter()
        self.refused: collections.Counter[str] = collections.Counter()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []

    def as_json(self) -> str:
        """Render for machines."""
        return json.dumps(
            {
                "predictions": self.predictions,
                "outcomes": dict(sorted(self.outcomes.items())),
                "refused": dict(sorted(self.refused.items())),
                "operation_types": len(self.operations),
                "operations": dict(sorted(self.operations.items())),
                "failures": self.failures,
            },
            indent=1,
        )


TALLY = Tally()


def _opened(model: Any) -> Program:
    import pytest

    if not hasattr(model, "_tinsmith_program"):
        if model.get_spec().WhichOneof("Type") != "mlProgram":
            pytest.skip("not an ML program")
        try:
            model._tinsmith_program = open_program(Path(model.package_path))
        except ProgramError as error:
            TALLY.refused[_reason(error)] += 1
            pytest.skip(f"refused: {error}")
    program: Program = model._tinsmith_program
    return program


def _reason(error: ProgramError) -> str:
    text = str(error)
    if isinstance(error, UnsupportedOp):
        return text.split(" (output")[0].split(";")[0]
    return f"{text.split(' (output')[0]}: {text.rpartition('): ')[2]}"


def compare(
    mlmodel: Any,
    input_key_values: Any,
    expected_outputs: dict[str, Any],
    dtype: str = "fp32",
    atol: float = 1e-4,
    **settings: Any,
) -> Any:
    """Stand in for the harness's `compare_backend`, with a tolerance of fp16's own size for fp16 programs.

    Before: 0.5 for whatever is labelled fp16, and 1e-4 for fp16 tensors under the label fp32, whose expected values
    numpy computed in fp16. After: 2^-8 of the largest expected value wherever the program holds fp16 tensors.
    """
    del dtype
    if _holds_half(_opened(mlmodel)):
        arrays = [np.asarray(value) for value in expected_outputs.values() if not isinstance(value, dict)]
        largest = max((float(np.abs(a).max(initial=0)) for a in arrays if a.dtype.kind in "fiu"), default=0.0)
        atol = max(atol, largest * 2.0**-8)
    return TALLY.compare(mlmodel, input_key_values, expected_outputs, dtype="fp32", atol=atol, **settings)


def _holds_half(program: Program) -> bool:
    kinds = program.known.types.values()
    return any(isinstance(kind, TensorType) and kind.dtype is FP16 for kind in kinds)


def _inputs(program: Program, data: dict[str, Any]) -> dict[str, Any]:
    """Give inputs the declared type and rank, as Core ML's Python layer does before predicting."""
    found = {}
    for item in program.inputs:
        value = np.asarray(data[item.name])
        if value.ndim > len(item.type.shape):
            value = value.reshape(value.shape[: len(item.type.shape)])
        found[item.name] = value.astype(item.type.dtype.numpy)
    return found


def predict(model: Any, data: dict[str, Any], state: Any = None) -> dict[str, Any]:
    """Stand in for `MLModel.predict`."""
    program = _opened(model)
    outputs = program.run(_inputs(program, data), TALLY.mode, state=state)
    TALLY.predictions += 1
    TALLY.operations.update(operation.type for operation in program.function.block.walk())
    half = {name: value.astype(np.float32) for name, value in outputs.items() if _is_half(value)}
    return outputs | half


def _is_half(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype == np.float16


def make_state(model: Any) -> Any:
    """Stand in for `MLModel.make_state`."""
    return _opened(model).make_state()


def pytest_addoption(parser: Any) -> None:
    """Choose precisions: fp32 is the sharp one, since Apple's harness allows fp16 programs an error of 0.5."""
    parser.addoption("--precision", choices=("fp32", "fp16", "all"), default="all")
    parser.addoption("--mode", choices=MODES, default="exact")


def pytest_configure(config: Any) -> None:
    """Load coremltools and put the executor in `predict`'s place."""
    TALLY.mode = config.getoption("--mode")
    os.environ["INCLUDE_MIL_FP32_UNIT_TESTS"] = "1"
    os.environ["PYMIL_TEST_TARGETS"] = "mlprogram"
    for name in _HIDDEN:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    import coremltools.converters.mil.testing_utils as harness
    from coremltools.models import model, utils

    for name in [name for name in _HIDDEN if sys.modules[name] is None]:
        del sys.modules[name]
    utils._macos_version = lambda: (26, 0)
    harness._IS_MACOS = True
    TALLY.compare, harness.compare_backend = harness.compare_backend, compare
    model.MLModel.predict = predict
    model.MLModel.make_state = make_state


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Leave out the older neural-network format, which has no program to interpret, and other precisions."""
    items[:] = [item for item in items if _chosen(getattr(item, "callspec", None), config.getoption("--precision"))]


def _chosen(callspec: Any, precision: str) -> bool:
    backend: Any = getattr(callspec, "params", {}).get("backend")
    if isinstance(backend, tuple):
        name, bits = backend[:2]
    elif hasattr(backend, "precision"):
        name, bits = backend.backend, backend.precision
    else:
        return True
    return name == "mlprogram" and precision in ("all", bits)


def pytest_runtest_logreport(report: Any) -> None:
    """Count outcomes; a refusal is apart from a test that skips itself."""
    if report.when == "call" or (report.when == "setup" and report.skipped):
        refused = report.skipped and "refused:" in str(report.longrepr)
        TALLY.outcomes["refused" if refused else report.outcome] += 1
    if report.failed:
        TALLY.failures.append(report.nodeid.split("tests/", 1)[-1])


def pytest_sessionfinish() -> None:
    """Write the tally where the caller asked for it."""
    if "TINSMITH_TALLY" in os.environ:
        Path(os.environ["TINSMITH_TALLY"]).write_text(TALLY.as_json())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the tally."""
    for line in _summary():
        terminalreporter.write_line(line)


def _summary() -> Iterator[str]:
    yield f"outcomes {dict(TALLY.outcomes)}; {TALLY.predictions} predictions of {len(TALLY.operations)} operation types"
    yield from (f"refused {count}: {what}" for what, count in TALLY.refused.most_common())


def suite_root() -> Path:
    """Return the folder of the operator tests in the installed coremltools, without importing it."""
    spec = importlib.util.find_spec("coremltools")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "converters/mil/mil/ops/tests"


def main(argv: list[str]) -> int:
    """Run the named parts of the suite (all by default) in this process."""
    import pytest

    split = argv.index("--") if "--" in argv else len(argv)
    parts = argv[:split] or list(SUITES)
    where = [str(suite_root() / part) for part in parts]
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(suite_root())]
    return int(pytest.main([*where, *options, *argv[split + 1 :]], plugins=[sys.modules[__name__]]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
