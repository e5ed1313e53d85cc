"""int64 and text forms of an ONNX artifact compute its bits, and a graph that does not is refused."""

import numpy as np
import onnx
import onnxruntime
import pytest

from stages.core import params
from stages.core.errors import ArtifactError, Unsupported
from stages.releasing import hugging_face, onnx_forms, tokenization
from stages.releasing.source import Source
from stages.schema.variant import Dynamic, Float, Palettized, Static, WeightOnly
from stages.targets.base import read_signature
from stages.targets.onnx_cpu import graph
from stages.tasks.classify.forms import text_form
from tests.toys import bundle as toy

FLOAT = Float(kind="float", bits=32)


@pytest.fixture
def source(tmp_path):
    return make_source(tmp_path / "build", FLOAT)


def make_source(root, precision, seed=0):
    root.mkdir()
    for name, content in {**toy.checkpoint(), "signature.json": toy.signature(), "model.onnx": toy.model(seed)}.items():
        (root / name).write_bytes(content)
    return Source(
        key="toy",
        target="onnx-cpu",
        precision=precision,
        artifact=root,
        signature=read_signature(root),
        labels=list(toy.LABELS),
        config={"model_type": "bert"},
        tokenization=tokenization.read(root, toy.LENGTH),
        probe=toy.probe(),
        compared=toy.probe(),
        checkpoint=root,
        reference=root,
    )


def run(path, dtype):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {name: toy.probe()[name].astype(dtype) for name in ("input_ids", "attention_mask")}
    return session.run(["logits"], feed)[0]


def test_hugging_face_clients_feed_int64_which_the_artifact_refuses_and_the_form_takes(source, tmp_path):
    with pytest.raises(Exception, match=r"Unexpected input data type"):
        run(source.artifact / "model.onnx", np.int64)
    form = hugging_face.write(source, tmp_path)
    assert form == {"dtype": "fp32", "path": "hf/onnx/model.onnx"}
    found = run(tmp_path / form["path"], np.int64)
    assert np.array_equal(found, run(source.artifact / "model.onnx", np.int32))
    assert [node.op_type for node in onnx.load(tmp_path / form["path"]).graph.node[:2]] == ["Cast", "Cast"]


def test_a_form_that_answers_otherwise_is_refused(source, tmp_path):
    other = make_source(tmp_path / "other", FLOAT, seed=1)
    hugging_face.write(other, tmp_path)
    with pytest.raises(ArtifactError, match=r"'hf/x' of variant 'toy' is up to [\d.]+ from the artifact"):
        onnx_forms.check_int64(source, tmp_path / "hf/onnx/model.onnx", "hf/x")
    with pytest.raises(ArtifactError, match=r"takes .*int32.* expected int64"):
        onnx_forms.check_int64(source, source.artifact / "model.onnx", "hf/x")


def test_a_text_form_has_the_tokenizer_in_front_and_a_softmax_behind(source, tmp_path):
    assert text_form.write(source, tmp_path) == "text/model.onnx"
    model = graph.load(tmp_path / "text/model.onnx")
    first = model.graph.node[0]
    settings = {item.name: onnx.helper.get_attribute_value(item) for item in first.attribute}
    assert (first.domain, first.op_type) == ("ai.onnx.contrib", "BertTokenizer")
    assert settings["vocab_file"].decode().splitlines() == list(toy.WORDS)
    # Its default leaves accents on, where our normaliser takes them off: 16 of 22 edge texts alike, 18 with this.
    assert (settings["strip_accents"], settings["max_length"]) == (1, toy.LENGTH)
    assert [item.name for item in model.graph.output] == ["logits", "probabilities"]
    session = onnx_forms.open_session(text_form.behind_tokenizer(model).SerializeToString(), "text")
    ids = np.array([2, 5, 6, 3])
    logits, scores = session.run(["logits", "probabilities"], {"row_ids": ids, "row_mask": np.ones_like(ids)})
    wanted = run(source.artifact / "model.onnx", np.int32)[:1]
    assert np.array_equal(logits, wanted)
    assert scores.sum() == pytest.approx(1)


def test_precisions_have_the_names_that_transformers_js_looks_for():
    channel = {"granularity": "channel"}
    names = {
        "model": FLOAT,
        "model_fp16": Float(kind="float", bits=16),
        "model_quantized": Dynamic(kind="dynamic", weight_bits=8, **channel),
        "model_int8": Static(kind="static", weight_bits=8, activation_bits=8, **channel),
        "model_q4": WeightOnly(kind="weight_only", weight_bits=4, granularity="block_32"),
    }
    assert [f"model{hugging_face.suffix(precision)[1]}" for precision in names.values()] == list(names)
    with pytest.raises(Unsupported, match=r"no name for .*leave 'hf' out"):
        hugging_face.suffix(Palettized(kind="palettized", weight_bits=4, granularity="tensor", sparsity=0))


def test_two_precisions_of_a_compression_merge_into_one_directory_by_copying(tmp_path):
    files = []
    for name, precision in (("a", FLOAT), ("b", Dynamic(kind="dynamic", weight_bits=8, granularity="channel"))):
        (tmp_path / name).mkdir()
        hugging_face.write(make_source(tmp_path / f"build-{name}", precision), tmp_path / name)
        folder = tmp_path / name / "hf"
        files.append(
            {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}
        )
    common = set(files[0]) & set(files[1])
    assert common == {"config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    assert {name: files[0][name] for name in common} == {name: files[1][name] for name in common}
    assert set(files[0]) ^ set(files[1]) == {"onnx/model.onnx", "onnx/model_quantized.onnx"}


def test_conf_names_each_form_once():
    from stages.core.errors import ConfigError
    from stages.schema.release import Release

    with pytest.raises(ConfigError, match="named once"):
        params.parse(Release, {"forms": ["hf", "hf"], "golden": "ids"}, "release")
