"""ONNX Runtime's own format: equal models have equal bytes and the artifact's answers; what a minimal build needs."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from stages.core.errors import ArtifactError
from stages.releasing import onnx_cpu, onnx_forms, ort_form, ort_format
from stages.schema.variant import Dynamic, Float, Mixed, WeightOnly
from stages.targets.onnx_cpu import graph
from tests.releasing.test_onnx_forms import make_source
from tests.targets.onnx_models import SMALLER, TARGET, TASK, lowered, make_checkpoint, utterances
from tests.toys import bundle as toy

FLOAT = Float(kind="float", bits=32)
FOUR = WeightOnly(kind="weight_only", weight_bits=4, granularity="block_32")
EIGHT = Dynamic(kind="dynamic", weight_bits=8, granularity="channel")
MIXED = Mixed(kind="mixed", low=FOUR, high=EIGHT, among="tables", kl_budget=1, utterances=1)


@pytest.fixture
def source(tmp_path):
    return make_source(tmp_path / "build", FLOAT)


def exported(source, path):
    """The artifact as ONNX Runtime writes it."""
    onnx_forms.open_session((source.artifact / graph.MODEL).read_bytes(), "model.onnx", rewrite=True, save=path)
    return path.read_bytes()


def test_equal_models_have_equal_bytes_whatever_order_they_were_written_in(source, tmp_path):
    first, *others = (exported(source, tmp_path / f"{index}.ort") for index in range(4))
    assert {ort_format.canonical(other) for other in others} == {ort_format.canonical(first)}
    assert ort_format.canonical(ort_format.canonical(first)) == ort_format.canonical(first)


def test_nothing_of_a_model_is_lost(source, tmp_path):
    content = exported(source, tmp_path / "x.ort")
    assert ort_format.read(ort_format.canonical(content)) == ort_format.read(content)
    other = make_source(tmp_path / "other", FLOAT, seed=1)
    assert ort_format.canonical(exported(other, tmp_path / "y.ort")) != ort_format.canonical(content)


def test_the_form_answers_as_the_artifact_does_and_another_s_is_refused(source, tmp_path):
    form = ort_form.write(source, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / form["path"], providers=["CPUExecutionProvider"])
    feed = {name: toy.probe()[name] for name in ("input_ids", "attention_mask")}
    expected = onnxruntime.InferenceSession(source.artifact / "model.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, feed)[0], expected.run(None, feed)[0])
    other = make_source(tmp_path / "other", FLOAT, seed=1)
    with pytest.raises(ArtifactError, match=r"'ort/model\.ort' of variant 'toy' is up to [\d.]+ from the artifact"):
        ort_form.check(other, tmp_path / form["path"])


def test_a_minimal_build_is_told_what_onnx_runtime_s_own_tool_would_tell_it(source, tmp_path):
    from onnxruntime.tools.convert_onnx_models_to_ort import create_config_from_models

    form = ort_form.write(source, tmp_path)
    create_config_from_models([tmp_path / form["path"]], tmp_path / "own.config", enable_type_reduction=False)
    own = [
        line for line in (tmp_path / "own.config").read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    ]
    assert (tmp_path / form["required_operators"]).read_text(encoding="utf-8").splitlines() == own


def test_a_field_that_is_not_known_is_an_error_and_not_lost(source, tmp_path, monkeypatch):
    content = exported(source, tmp_path / "x.ort")
    monkeypatch.setitem(ort_format.TABLES, "Node", ort_format.TABLES["Node"][:-2])
    with pytest.raises(ArtifactError, match="'Node' of ONNX Runtime's format has a field that is not known here"):
        ort_format.read(content)


@pytest.mark.parametrize(("content", "message"), [(b"", "not a model"), (b"\0" * 64, "expected 'ORTM' as its mark")])
def test_what_is_no_such_file_is_refused(content, message):
    with pytest.raises(ArtifactError, match=message):
        ort_format.read(content)


@pytest.mark.parametrize(
    ("precision", "left_out"),
    [
        (FLOAT, False),
        (EIGHT, False),
        (FOUR, False),
        (MIXED, False),
        (Float(kind="float", bits=16), True),
        (WeightOnly(kind="weight_only", weight_bits=8, granularity="channel"), True),
        (MIXED.model_copy(update={"high": Float(kind="float", bits=16)}), True),
    ],
)
def test_weights_that_the_format_would_widen_are_left_out_with_the_reason(precision, left_out):
    assert (ort_form.why_not(precision) is not None) is left_out
    if left_out:
        assert "as fp32" in ort_form.why_not(precision)


@pytest.mark.parametrize(
    ("form", "precision", "oldest"),
    [
        ("onnx", EIGHT, "1.18.1"),
        ("ort", EIGHT, "1.18.1"),
        ("onnx", FOUR, "1.23.2"),
        ("ort", FOUR, "1.29.0"),
        ("ort", MIXED, "1.23.2"),
        ("ort", MIXED.model_copy(update={"among": "all"}), "1.29.0"),
    ],
)
def test_limits_name_the_oldest_runtime_that_was_seen_right(form, precision, oldest, tmp_path):
    (found,) = onnx_cpu.clients(form, make_source(tmp_path / "build", precision))
    assert (found["client"], found["oldest_seen_right"]) == ("ONNX Runtime", oldest)


def test_limits_claim_nothing_of_an_opset_that_was_not_tried(tmp_path):
    source = make_source(tmp_path / "build", EIGHT)
    model = graph.load(source.artifact / graph.MODEL)
    model.opset_import[0].version = 21
    (source.artifact / graph.MODEL).write_bytes(model.SerializeToString())
    (found,) = onnx_cpu.clients("onnx", source)
    assert (found["oldest_seen_right"], found["established"]) == ("unknown", "opset 21; tried with opset 20 alone")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from stages.targets.onnx_cpu.convert import convert

    out = tmp_path_factory.mktemp("converted")
    convert(make_checkpoint("bert", tmp_path_factory.mktemp("checkpoint")), TASK, TARGET, out)
    return out


@pytest.mark.target
@pytest.mark.parametrize("name", [*SMALLER, "mixed"])
def test_every_precision_is_written_or_left_out_and_none_grows(name: str, converted: Path, tmp_path: Path) -> None:
    precision = {**SMALLER, "mixed": MIXED}[name]
    lowered(converted, precision, tmp_path)
    content = (tmp_path / graph.MODEL).read_bytes()
    rewritten = onnx_forms.open_session(content, graph.MODEL, rewrite=True, save=tmp_path / "x.ort")
    canonical = ort_format.canonical((tmp_path / "x.ort").read_bytes())
    assert (len(canonical) > 1.5 * len(content)) is (ort_form.why_not(precision) is not None)
    inputs = {key: value[:1, :9] for key, value in utterances(1, seed=5).items()}
    found = onnx_forms.answer(onnx_forms.open_session(canonical, "model.ort"), inputs)
    np.testing.assert_array_equal(found, onnx_forms.answer(rewritten, inputs))
