"""A mixture of two precisions in one ONNX graph: chosen by measuring, stored as chosen, and checked like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import ConversionError
from stages.measure.structure import compare
from stages.schema.variant import Dynamic, Float, Mixed, Palettized, WeightOnly
from stages.targets.onnx_cpu import graph, lowering, supports
from stages.targets.onnx_cpu.structure import read
from stages.targets.onnx_cpu.weights import weights
from stages.targets.onnx_cpu.whole import strays
from tests.targets.onnx_models import SMALLER, lowered, run_all, utterances

pytestmark = pytest.mark.target

FLOAT = Float(kind="float", bits=32)
FOUR = WeightOnly(kind="weight_only", weight_bits=4, granularity="block_32")
EIGHT = Dynamic(kind="dynamic", weight_bits=8, granularity="channel")


def mixed(**changes: Any) -> Mixed:
    asked = {"kind": "mixed", "low": FOUR, "high": EIGHT, "among": "all", "kl_budget": 0.0005, "utterances": 8}
    return Mixed.model_validate(asked | changes)


@pytest.fixture(scope="module")
def mixture(converted: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    return lowered(converted["bert"], mixed(), tmp_path_factory.mktemp("mixed"))


def test_a_mixture_stores_every_weight_as_chosen_and_says_why(mixture: tuple[Path, dict[str, Any]]) -> None:
    out, report = mixture
    found = report["mixture"]
    chosen = {weight["name"] for weight in found["weights"] if weight["precision"] == "low"}
    assert sorted(chosen) == found["low"]
    assert 0 < len(chosen) < len(found["weights"]) == 15
    stored = {item.name: tuple(item.dims) for item in graph.load(out / graph.MODEL).graph.initializer}
    packed = {node.input[at] for node in nodes(out) if (at := graph.PACKED.get(node.op_type)) is not None}
    assert packed == {f"{name}_quantized" for name in chosen if name != "positions"}
    assert packed < set(stored)
    assert found["chosen"]["kl_divergence_mean"] <= mixed().kl_budget < found["all_low"]["kl_divergence_mean"]
    assert found["chosen"]["size_bytes"] == (out / graph.MODEL).stat().st_size < found["all_high"]["size_bytes"]


def test_a_mixture_is_the_graph_it_was_made_from(converted: dict[str, Path], mixture: tuple[Path, Any]) -> None:
    compared = compare(read(converted["bert"]), read(mixture[0]))
    assert (compared.differences, compared.beyond) == ([], 0)
    assert strays(converted["bert"], mixture[0]) == []
    source, found = weights(converted["bert"]), weights(mixture[0])
    assert len(found) == len(source)


def test_its_report_counts_bytes_at_two_precisions(mixture: tuple[Path, dict[str, Any]]) -> None:
    out, report = mixture
    low = set(report["mixture"]["low"])
    sizes = {name: value.size for name, value in weights(out).items()}
    found = sum(tally["bytes"] for tally in report["quantized"].values())
    assert min(sizes.values()) >= lowering.SMALLEST
    assert sum(sizes.values()) / 2 < found < sum(sizes.values()) if low else found == sum(sizes.values())


def test_tables_alone_are_lowered_where_that_is_asked(converted: dict[str, Path], tmp_path: Path) -> None:
    out, report = lowered(converted["bert"], mixed(among="tables", kl_budget=1), tmp_path)
    assert {weight["name"] for weight in report["mixture"]["weights"]} == {"positions", report["mixture"]["low"][0]}
    assert "word_embeddings" in report["mixture"]["low"][0]
    ops = [node.op_type for node in nodes(out)]
    assert (ops.count("GatherBlockQuantized"), ops.count("MatMulNBits")) == (1, 0)
    assert ops.count("DynamicQuantizeMatMul") == 13


def test_float_beside_integers_stays_float(converted: dict[str, Path], tmp_path: Path) -> None:
    out, report = lowered(converted["bert"], mixed(low=EIGHT, high=FLOAT, kl_budget=1e-6), tmp_path)
    low = report["mixture"]["low"]
    assert 0 < len(low) < 15
    assert report["left_float"]["product"]["tensors"] + report["left_float"]["lookup"]["tensors"] == 16 - len(low)
    inputs = utterances(8, seed=4)
    expected = run_all(converted["bert"], inputs)
    assert 0 < np.abs(run_all(out, inputs) - expected).max() < 0.05 * np.ptp(expected)


@pytest.mark.parametrize("family", ["distilbert", "mobilebert", "albert"])
def test_every_family_mixes(family: str, converted: dict[str, Path], tmp_path: Path) -> None:
    out, report = lowered(converted[family], mixed(kl_budget=0.001), tmp_path)
    assert report["mixture"]["low"]
    compared = compare(read(converted[family]), read(out))
    assert (compared.differences, compared.beyond) == ([], 0)
    assert strays(converted[family], out) == []


def test_a_weight_at_the_other_precision_is_an_error(converted: dict[str, Path], mixture: tuple[Path, Any]) -> None:
    out, report = mixture
    asked = graph.weights(graph.load(converted["bert"] / graph.MODEL))
    model = graph.load(out / graph.MODEL)
    lowering.check(model, lowering.shares(asked, mixed(), report["mixture"]["low"]))
    with pytest.raises(ConversionError, match=r"operators read .*of 4 bits.*; expected .*13 product of 8 bits"):
        lowering.check(model, lowering.shares(asked, mixed(), []))


def test_what_cannot_be_lowered_to_cannot_be_mixed() -> None:
    assert all(supports(mixed(low=one)) for one in SMALLER.values() if one.kind != "static")
    assert not supports(mixed(low=Palettized(kind="palettized", weight_bits=4, granularity="tensor", sparsity=0)))


def nodes(artifact: Path) -> Any:
    return graph.load(artifact / graph.MODEL).graph.node
