"""Run the operator tests that ship with coremltools, with our executor in place of Core ML's `predict`.

`python -m benchmarks.coreml_operator_tests [PART ...] [-- PYTEST ARGS]` prints a row per file. Apple wrote the tests
and their expected values; on Linux they normally stop before predicting. `refused` are programs that use an operation
or setting the executor has no definition of, `explained` are failures whose reason lies in the test (`EXPLAINED`), and
`skipped` and `expected to fail` are the tests' own decisions; each is listed with its reason and count. With TensorFlow
installed none is skipped for want of it.
"""

from __future__ import annotations

import collections
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from stages.coreml import Program, open_program
from stages.coreml.dtypes import FP16
from stages.coreml.errors import Mismatch, UnsupportedOp
from stages.coreml.executor import MODES, Mode
from stages.coreml.values import TensorType

_REFUSED, _EXPLAINED = "refused: ", "explained: "
_HIDDEN = ("sklearn", "xgboost", "libsvm", "torchao", "executorch")
"""Packages that coremltools imports where it finds them and that its operator tests do not use."""
OUTCOMES = ("passed", "failed", "explained", "refused", "skipped", "expected to fail")
EXPLAINED = (
    (
        ("iOS14/test_normalization.py::TestNormalizationBatchNorm", "smoke", "precision='fp32'", "numpy.float16"),
        "coremltools saves `batch_norm` of an fp32 x with an output declared fp16 (fp16 placeholder at iOS 15)",
        True,
    ),
    (
        ("iOS17/test_scatter_gather.py::TestScatter::test_ios17_invalid_indices", "validate_indices=False"),
        "expects a wrong answer for indices outside the axis, which MIL leaves undefined; the executor refuses them",
        True,
    ),
    (
        ("iOS14/test_tensor_transformation.py::TestSliceByIndex::test_efficient_type_inference",),
        "gives coremltools' type inference 10 ms of wall clock, too few on a busy host; it runs no program",
        False,
    ),
)
"""Failures whose reason is not the executor: fragments of the test's id, the reason, whether it fails every time (then
the run fails where it passes)."""
SUITES = ("iOS14", "iOS15", "iOS16", "iOS17", "iOS18", "coreml_dialect")


class Tally:
    """What happened, over all tests of a run."""

    def __init__(self) -> None:
        self.mode: Mode = "exact"
        self.compare: Callable[..., Any] = lambda *_, **__: None
        self.predictions: collections.Counter[str] = collections.Counter()
        self.operations: collections.Counter[str] = collections.Counter()
        self.outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.reasons: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.clock = 0.0
        self.running = ""
        self.failures: list[str] = []

    def as_json(self) -> str:
        """Render for machines."""
        return json.dumps(
            {
                "predictions": self.predictions.total(),
                "outcomes": sum(self.outcomes.values(), collections.Counter()),
                "files": self.outcomes,
                "reasons": self.reasons,
                "operations": self.operations,
                "failures": self.failures,
            },
            indent=1,
            sort_keys=True,
        )

    def table(self) -> Iterator[str]:
        """Render one row per file, then the sums."""
        total = sum(self.outcomes.values(), collections.Counter())
        yield f"| part | {' | '.join(OUTCOMES)} | programs run | CPU seconds |"
        yield f"|---{'|---:' * (len(OUTCOMES) + 2)}|"
        for part, counts in self.outcomes.items():
            yield _row(part, counts, self.predictions[part], self.seconds[part])
        yield _row("all", total, self.predictions.total(), sum(self.seconds.values()))


def _row(part: str, counts: Mapping[str, int], predictions: int, seconds: float) -> str:
    return f"| {part} | {' | '.join(str(counts.get(key, 0)) for key in OUTCOMES)} | {predictions} | {seconds:.0f} |"


TALLY = Tally()


def _opened(model: Any) -> Program:
    import pytest

    if not hasattr(model, "_tinsmith_program"):
        if model.get_spec().WhichOneof("Type") != "mlProgram":
            pytest.skip("not an ML program")
        with _refusals():
            model._tinsmith_program = open_program(Path(model.package_path))
    program: Program = model._tinsmith_program
    return program


@contextmanager
def _refusals() -> Iterator[None]:
    """Skip a test for what the executor has no definition of; whatever else it complains of fails the test."""
    import pytest

    try:
        yield
    except UnsupportedOp as error:
        operation, cause = str(error).split(" (output")[0], str(error).rpartition("): ")[2]
        pytest.skip(f"{_REFUSED}{operation}: {cause.split('; expected')[0]}")


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
    with _refusals():
        try:
            outputs = program.run(_inputs(program, data), TALLY.mode, state=state)
        except Mismatch as error:
            raise RuntimeError(f"Unable to compute the prediction using ML Program: {error}") from error
    TALLY.predictions[TALLY.running] += 1
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
    parser.addoption("--every", type=int, default=1, help="run every n-th test only")


def pytest_configure(config: Any) -> None:
    """Put the executor in `predict`'s place."""
    import coremltools.converters.mil.testing_utils as harness
    from coremltools.converters import _converters_entry
    from coremltools.models import model, utils

    TALLY.mode = config.getoption("--mode")
    utils._macos_version = lambda: (26, 0)
    harness._IS_MACOS = True
    TALLY.compare, harness.compare_backend = harness.compare_backend, compare
    model.MLModel.predict = predict
    model.MLModel.make_state = make_state
    # Each conversion collects garbage, which takes up to 0.8 s: whatever torch and TensorFlow loaded is walked.
    _converters_entry.gc = SimpleNamespace(collect=int)


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Leave out the older neural-network format, which has no program to interpret, and what was not asked for."""
    import pytest

    precision = config.getoption("--precision")
    items[:] = [item for item in items if _chosen(getattr(item, "callspec", None), precision)]
    items[:] = items[:: config.getoption("--every")]
    for item in items:
        for fragments, reason, always in EXPLAINED:
            if all(fragment in item.nodeid for fragment in fragments):
                item.add_marker(pytest.mark.xfail(reason=_EXPLAINED + reason, strict=always))


def _chosen(callspec: Any, precision: str) -> bool:
    backend: Any = getattr(callspec, "params", {}).get("backend")
    if isinstance(backend, tuple):
        name, bits = backend[:2]
    elif hasattr(backend, "precision"):
        name, bits = backend.backend, backend.precision
    else:
        return True
    return name == "mlprogram" and precision in ("all", bits)


def _part(nodeid: str) -> str:
    return nodeid.split("::")[0].rsplit("tests/", 1)[-1]


def pytest_runtest_logstart(nodeid: str) -> None:
    """Note which file is running."""
    TALLY.running, TALLY.clock = _part(nodeid), time.process_time()


def pytest_runtest_logfinish() -> None:
    """Charge the file for the CPU time of the test."""
    TALLY.seconds[TALLY.running] += time.process_time() - TALLY.clock


def pytest_runtest_logreport(report: Any) -> None:
    """Count the outcome and its reason."""
    if report.when != "call" and report.passed:
        return
    outcome, reason = _outcome(report)
    TALLY.outcomes[_part(report.nodeid)][outcome] += 1
    if outcome == "failed":
        TALLY.failures.append(report.nodeid.rsplit("tests/", 1)[-1])
    elif reason:
        TALLY.reasons[outcome][reason] += 1


def _outcome(report: Any) -> tuple[str, str]:
    if report.failed or report.passed:
        return report.outcome, ""
    if hasattr(report, "wasxfail"):
        kind = "explained" if report.wasxfail.startswith(_EXPLAINED) else "expected to fail"
        return kind, report.wasxfail.removeprefix(_EXPLAINED).removeprefix("reason: ")
    reason = report.longrepr[2].removeprefix("Skipped: ")
    return ("refused" if reason.startswith(_REFUSED) else "skipped"), reason.removeprefix(_REFUSED)


def pytest_sessionfinish() -> None:
    """Write the tally where the caller asked for it."""
    if "TINSMITH_TALLY" in os.environ:
        Path(os.environ["TINSMITH_TALLY"]).write_text(TALLY.as_json(), encoding="utf-8")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the tally."""
    for line in _summary():
        terminalreporter.write_line(line)


def _summary() -> Iterator[str]:
    yield from TALLY.table()
    yield f"{len(TALLY.operations)} operation types ran"
    for outcome, reasons in TALLY.reasons.items():
        yield from (f"{outcome} {count}: {what}" for what, count in reasons.most_common())


def suite_root() -> Path:
    """Return the folder of the operator tests in the installed coremltools, without importing it."""
    spec = importlib.util.find_spec("coremltools")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "converters/mil/mil/ops/tests"


def _import_coremltools() -> None:
    """Import it without what it would otherwise load besides, before pytest reads the conftest of its tests."""
    os.environ["INCLUDE_MIL_FP32_UNIT_TESTS"] = "1"
    os.environ["PYMIL_TEST_TARGETS"] = "mlprogram"
    hidden = [name for name in _HIDDEN if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    import coremltools

    assert coremltools
    for name in hidden:
        del sys.modules[name]


def main(argv: list[str]) -> int:
    """Run the named parts of the suite (all by default) in this process."""
    import pytest

    _import_coremltools()
    split = argv.index("--") if "--" in argv else len(argv)
    parts = argv[:split] or list(SUITES)
    where = [str(suite_root() / part) for part in parts]
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(suite_root())]
    return int(pytest.main([*where, *options, *argv[split + 1 :]], plugins=[sys.modules[__name__]]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
