"""Copies of labels and vocabulary inside a bundle's forms are made again and compared; an edited one is named."""

import io
import json
import zipfile

import pytest
from onnx import numpy_helper

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.releasing import card, contents, derived, hugging_face, onnx_forms, tokenization
from stages.schema.release import Release
from stages.schema.variant import Float, Variant
from stages.targets.onnx_cpu import graph
from stages.tasks.classify.forms import task_file, task_metadata, text_form
from tests.toys import bundle as toy

VARIANT = Variant(compression="none", target="onnx-cpu", precision="fp32", required=True, release_not_measured=False)
SPLITS = ("coverage", "probe", "test")


@pytest.fixture
def places(tmp_path):
    for role in ("artifact", "compressed", "data", "reference"):
        (tmp_path / role).mkdir()
    for name, content in toy.checkpoint().items():
        (tmp_path / "compressed" / name).write_bytes(content)
    (tmp_path / "artifact/model.onnx").write_bytes(toy.model())
    (tmp_path / "artifact/signature.json").write_bytes(toy.signature())
    artifact.write_json(tmp_path / "data/labels.json", list(toy.LABELS))
    for name in SPLITS:
        artifact.write_arrays(tmp_path / f"reference/{name}.npz", toy.probe())
    return {role: tmp_path / role for role in ("artifact", "compressed", "data", "reference")}


@pytest.fixture
def bundle(places, tmp_path, monkeypatch):
    monkeypatch.setattr(card, "write", lambda *_: None)

    def write():
        out = tmp_path / "bundle"
        (out / "tokenizer").mkdir(parents=True)
        (out / "signature.json").write_bytes(toy.signature())
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (out / "tokenizer" / name).write_bytes((places["compressed"] / name).read_bytes())
        settings = Release(forms=["hf", "text"], golden="ids", required=True)
        contents.add(out, "toy", VARIANT, Float(kind="float", bits=32), {}, places, settings)
        return out

    return write


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def reversed_lines(path):
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[::-1]), encoding="utf-8")


def other_vocabulary(path):
    model = graph.load(path)
    (words,) = [item for item in model.graph.node[0].attribute if item.name == "vocab_file"]
    words.s = words.s.replace(b"hello\nworld", b"world\nhello")
    graph.write(model, path)


EDITS = {
    "'labels.txt' is not the lines": lambda out: reversed_lines(out / "labels.txt"),
    "'hf/vocab.txt' is not the tokenizer's": lambda out: reversed_lines(out / "hf/vocab.txt"),
    "'hf/tokenizer.json' is not the tokenizer's": lambda out: edit(out / "hf/tokenizer.json", normalizer=None),
    "'hf/tokenizer_config.json' is not what follows": lambda out: edit(
        out / "hf/tokenizer_config.json", do_lower_case=False
    ),
    "'hf/config.json' names other labels": lambda out: edit(out / "hf/config.json", id2label={"0": "yes", "1": "no"}),
    "the tokenizer in 'text/model.onnx' is not": lambda out: other_vocabulary(out / text_form.FORM),
}


def test_a_bundle_just_written_follows_from_its_labels_and_tokenizer(bundle):
    assert derived.differences(bundle()) == []


@pytest.mark.parametrize("said", EDITS)
def test_an_edited_copy_is_named(said, bundle):
    out = bundle()
    EDITS[said](out)
    (difference,) = derived.differences(out)
    assert difference.startswith(said)


def test_a_copy_that_is_written_wrongly_stops_the_release(bundle, monkeypatch):
    write = contents.tokenization.write

    def careless(tokenization, out, **options):
        write(tokenization, out, **options)
        reversed_lines(out / "vocab.txt")

    monkeypatch.setattr(contents.tokenization, "write", careless)
    with pytest.raises(ArtifactError, match=r"bundle 'toy': 'hf/vocab.txt' is not the tokenizer's"):
        bundle()


def test_a_form_that_differs_on_texts_beyond_the_probe_stops_the_release(bundle, places, monkeypatch):
    """Half of the vocabulary read as the unknown token: no probe text has it."""
    arrays = toy.probe()
    arrays["input_ids"] = arrays["input_ids"].copy()
    arrays["input_ids"][0, 1:3] = toy.WORDS.index("cafe")
    artifact.write_arrays(places["reference"] / "coverage.npz", arrays)
    changed = graph.load(places["artifact"] / "model.onnx")
    votes = next(item for item in changed.graph.initializer if item.name == "votes")
    table = numpy_helper.to_array(votes).copy()
    table[toy.WORDS.index("cafe")] = table[1]
    votes.CopyFrom(numpy_helper.from_array(table, "votes"))

    def lossy(_):
        onnx_forms.take_int64(changed)
        return changed

    monkeypatch.setattr(hugging_face.onnx_forms, "int64_copy", lossy)
    with pytest.raises(ArtifactError, match=r"'hf/onnx/model.onnx' of variant 'toy' is up to .* on one text"):
        bundle()


def packed(words, labels=toy.LABELS, **more):
    files = {"vocab.txt": "".join(f"{word}\n" for word in words), "labels.txt": "".join(f"{one}\n" for one in labels)}
    return task_metadata.append_files(b"model", files | more)


def test_the_files_inside_a_task_file_are_the_bundles(tmp_path):
    for name, content in toy.checkpoint().items():
        (tmp_path / name).write_bytes(content)
    source, path = tokenization.read(tmp_path, toy.LENGTH), tmp_path / "task.tflite"

    def found(content):
        path.write_bytes(content)
        return list(task_file.packed(path, list(toy.LABELS), source))

    assert found(packed(toy.WORDS)) == []
    assert found(packed(toy.WORDS[::-1])) == ["'vocab.txt' in 'litert/task.tflite' is not the bundle's"]
    assert found(packed(toy.WORDS, toy.LABELS[::-1])) == ["'labels.txt' in 'litert/task.tflite' is not the bundle's"]
    assert "holds the files ['labels.txt', 'note.txt', 'vocab.txt']" in found(packed(toy.WORDS, **{"note.txt": ""}))[0]
    assert "holds no files" in found(b"model")[0]
    twice = io.BytesIO(packed(toy.WORDS))
    with zipfile.ZipFile(twice, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("labels.txt", "x\n")
    assert "holds the files ['labels.txt', 'labels.txt', 'vocab.txt']" in found(twice.getvalue())[0]
