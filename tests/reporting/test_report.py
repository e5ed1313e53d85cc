"""The stage: equal bytes, light imports, nothing of removed variants, a clear error for every missing piece."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import ArtifactError
from tests.toys.report_build import (
    TABLE,
    reseal,
    rewrite,
    variants,
    written,
)


def test_same_evidence_gives_same_bytes_in_two_processes(build: Path) -> None:
    written(build)
    params = build / "params.yaml"
    params.write_text(
        json.dumps({"variants": {key: value.model_dump() for key, value in variants().items()}}), encoding="utf-8"
    )
    command = [sys.executable, "-m", "stages.report", "--params", str(params), "--build", str(build)]
    command += ["--verdicts", str(build / "verdicts.json"), "--out", str(build / "again")]
    subprocess.run(command, check=True, env={"PATH": "", "PYTHONHASHSEED": "7"})
    for name in ("index.html", "pareto.json", "gaps.json", "manifest.json"):
        assert (build / "report" / name).read_bytes() == (build / "again" / name).read_bytes(), name


def test_the_stage_imports_no_heavy_library() -> None:
    code = (
        "import sys, stages.report; "
        "heavy = {'torch', 'transformers', 'coremltools', 'ai_edge_litert', 'litert_torch', 'onnxruntime', 'mlflow', "
        "'matplotlib', 'sklearn', 'scipy'}; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_leftovers_of_removed_variants_never_appear(build: Path) -> None:
    chosen = {key: value for key, value in variants().items() if key != "onnx-cpu-pruned"}
    html = written(build, chosen)
    # Its directories and its verdict still lie in the build.
    assert (build / "parity/onnx-cpu-pruned").is_dir()
    assert "pruned" not in html
    for name in ("pareto.json", "gaps.json"):
        assert "pruned" not in (build / "report" / name).read_text(encoding="utf-8")
    assert "pruned" in written(build)


def test_pareto_rows_hold_what_dvc_plots_read(build: Path) -> None:
    written(build)
    rows = json.loads((build / "report/pareto.json").read_text(encoding="utf-8"))
    assert {row["variant"] for row in rows} == set(TABLE)
    columns = {"variant", "target", "precision", "compression", "latency_p50_ms", "size_bytes", "metric",
               "quality", "top1_agreement", "verdict"}  # fmt: skip
    assert all(set(row) == columns and row["metric"] == "accuracy" for row in rows)


@pytest.mark.parametrize(
    ("missing", "match"),
    [
        ("verdicts.json", "cannot read .*verdicts.json"),
        ("parity/onnx-cpu-fp32", "onnx-cpu-fp32' has no manifest.json; next: run `dvc repro`"),
        ("benchmark/onnx-cpu-fp32", "onnx-cpu-fp32' has no manifest.json"),
        ("reference/none", "none' has no manifest.json"),
        ("converted/none-onnx-cpu", "none-onnx-cpu' has no manifest.json"),
        ("teacher", "teacher' has no manifest.json"),
        ("student/test_logits.npy", "'test_logits.npy' is missing"),
        ("data/labels.json", "'labels.json' is missing"),
    ],
)
def test_a_missing_piece_is_a_clear_error_and_writes_nothing(build: Path, missing: str, match: str) -> None:
    path = build / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ArtifactError, match=match):
        written(build)
    assert not (build / "report").exists()


def test_a_variant_that_was_not_judged_is_an_error(build: Path) -> None:
    rewrite(build / "verdicts.json", lambda value: value["variants"].pop("onnx-cpu-fp32"))
    with pytest.raises(ArtifactError, match="does not judge variant 'onnx-cpu-fp32'.*dvc repro gate"):
        written(build)


def test_verdicts_of_another_parity_run_are_refused(build: Path) -> None:
    def older(value: Any) -> None:
        value["variants"]["onnx-cpu-fp32"]["metrics"]["top1_agreement"] = 0.5

    rewrite(build / "verdicts.json", older)
    with pytest.raises(ArtifactError, match="'onnx-cpu-fp32' was judged with top1_agreement 0.5"):
        written(build)


def test_altered_evidence_is_refused(build: Path) -> None:
    rewrite(build / "parity/onnx-cpu-fp32/metrics.json", lambda value: value.update(status="measured "))
    with pytest.raises(ArtifactError, match="is not what its stage wrote"):
        written(build)


def test_references_of_different_test_splits_are_refused(build: Path) -> None:
    with np.load(build / "reference/pruned/test.npz") as stored:
        arrays = dict(stored)
    arrays["labels"] = arrays["labels"][::-1]
    np.savez(build / "reference/pruned/test.npz", **arrays)
    reseal(build / "reference/pruned")
    with pytest.raises(ArtifactError, match="reference 'pruned' has another test split"):
        written(build)
