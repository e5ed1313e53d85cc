"""Forms of converted models: MediaPipe's task file, operator versions, and the Core ML package with labels."""

import io
import json
import zipfile

import numpy as np
import pytest

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.coreml.proto import model_file, read_model
from stages.measure.metrics import softmax
from stages.releasing import contents, core_ml, derived, litert, tokenization
from stages.releasing.source import Source
from stages.schema.release import Release
from stages.schema.task import Task
from stages.schema.variant import Dynamic, Float, Static, Variant
from stages.targets.base import read_signature
from stages.targets.coreml_metal.package import read_blobs
from stages.targets.tflite_nnapi import flatbuffer
from stages.tasks.base import INPUTS
from stages.tasks.classify.forms import coreml_metal, task_file, task_metadata
from tests.toys import bundle as toy
from tests.toys.classifiers import LABELS, compressed
from tests.toys.targets import coreml, tflite

pytestmark = pytest.mark.target

TASK = Task(name="classify", max_length=toy.LENGTH, sequence_lengths=[4, toy.LENGTH])
TFLITE = tflite()
COREML = coreml()
FLOAT, HALF = Float(kind="float", bits=32), Float(kind="float", bits=16)
PRECISIONS = {
    "float": FLOAT,
    "channel": Dynamic(kind="dynamic", weight_bits=8, granularity="channel"),
    "block": Dynamic(kind="dynamic", weight_bits=4, granularity="block_32"),
    "tensor": Dynamic(kind="dynamic", weight_bits=8, granularity="tensor"),
    "static": Static(kind="static", weight_bits=8, activation_bits=8, granularity="tensor"),
}
VERSIONS = {
    "block": {"EMBEDDING_LOOKUP": 4, "FULLY_CONNECTED": 14},
    "channel": {"EMBEDDING_LOOKUP": 4, "FULLY_CONNECTED": 12},
}


@pytest.fixture(scope="module")
def checkpoint(make_model, tmp_path_factory):
    model = make_model("bert", hidden_size=64, intermediate_size=256)
    out = compressed(model, tmp_path_factory.mktemp("checkpoint"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / name).write_bytes(toy.checkpoint()[name])
    return out


@pytest.fixture(scope="module")
def tflite(checkpoint, tmp_path_factory):
    """Precision → artifact directory."""
    from stages.targets.tflite_nnapi.convert import convert
    from stages.targets.tflite_nnapi.quantize import quantize

    root = tmp_path_factory.mktemp("tflite")
    (root / "converted").mkdir()
    convert(checkpoint, TASK, TFLITE, root / "converted")
    for name, precision in PRECISIONS.items():
        (root / name).mkdir()
        quantize(root / "converted", precision, toy.probe(), TFLITE, root / name)
    return {name: root / name for name in PRECISIONS}


@pytest.fixture(scope="module")
def mlpackage(checkpoint, tmp_path_factory):
    from stages.targets.coreml_metal.convert import convert
    from stages.targets.coreml_metal.quantize import quantize

    root = tmp_path_factory.mktemp("coreml")
    for name in ("converted", "artifact"):
        (root / name).mkdir()
    convert(checkpoint, TASK, COREML, root / "converted")
    quantize(root / "converted", HALF, toy.probe(), COREML, root / "artifact")
    return root / "artifact"


def source(target, precision, directory, checkpoint):
    return Source(
        key="toy",
        target=target,
        precision=precision,
        artifact=directory,
        signature=read_signature(directory),
        labels=list(LABELS),
        config=artifact.read_json(checkpoint / "config.json"),
        tokenization=tokenization.read(checkpoint, toy.LENGTH),
        probe=toy.probe(),
        compared=toy.probe(),
        checkpoint=checkpoint,
        reference=checkpoint,
    )


def versions(model):
    names = flatbuffer.operator_names()
    return {names[max(code.builtinCode, code.deprecatedBuiltinCode)]: code.version for code in model.operatorCodes}


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_task_file_has_three_inputs_and_scores_that_are_the_artifacts_probabilities(
    name, tflite, checkpoint, tmp_path
):
    from ai_edge_litert.interpreter import Interpreter

    one = source("tflite-nnapi", PRECISIONS[name], tflite[name], checkpoint)
    path = tmp_path / task_file.write(one, tmp_path)
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    inputs, (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert [item["name"] for item in inputs] == ["ids", "mask", "segment_ids"]
    assert {(tuple(item["shape"]), item["dtype"]) for item in inputs} == {((1, toy.LENGTH), np.int32)}
    assert (tuple(output["shape"]), output["dtype"]) == ((1, len(LABELS)), np.float32)
    ids, mask = (toy.probe()[key][1:] for key in INPUTS)
    for item, value in zip(inputs, (ids, mask, np.ones_like(ids)), strict=True):
        interpreter.set_tensor(item["index"], value)
    interpreter.invoke()
    wanted = softmax(one.answer({"attention_mask": mask, "input_ids": ids}))
    assert interpreter.get_tensor(output["index"]) == pytest.approx(wanted, abs=1e-6)
    assert len(flatbuffer.read(path).subgraphs) == 1
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / task_file.write(one, tmp_path / "again")
    assert again.read_bytes() == path.read_bytes()


def test_a_task_file_of_other_weights_is_refused(tflite, checkpoint, tmp_path):
    task_file.write(source("tflite-nnapi", FLOAT, tflite["float"], checkpoint), tmp_path)
    other = source("tflite-nnapi", PRECISIONS["static"], tflite["static"], checkpoint)
    with pytest.raises(ArtifactError, match=r"'litert/task.tflite' of variant 'toy' is up to .* from the artifact"):
        task_file.check(other, tmp_path)


@pytest.mark.parametrize("name", VERSIONS)
def test_several_scales_declare_the_versions_that_old_runtimes_refuse(name, tflite, checkpoint, tmp_path):
    """They load such files as ai-edge-quantizer leaves them, and answer 1 of 50 CLINC150 utterances rightly."""
    left = tmp_path / "left"
    left.mkdir()
    model = flatbuffer.read(tflite[name] / flatbuffer.MODEL)
    for code in model.operatorCodes:
        code.version = min(code.version, 5)
    flatbuffer.write(model, left / flatbuffer.MODEL)
    (left / "signature.json").write_bytes((tflite[name] / "signature.json").read_bytes())
    one = source("tflite-nnapi", PRECISIONS[name], left, checkpoint)
    assert litert.write(one, tmp_path) == "litert/model.tflite"
    shipped = [flatbuffer.read(tmp_path / path) for path in (litert.MODEL, task_file.write(one, tmp_path))]
    for model in shipped:
        assert versions(model).items() >= VERSIONS[name].items()


@pytest.mark.parametrize("name", ["float", "tensor", "static"])
def test_other_precisions_ship_no_second_model_and_declare_what_they_did(name, tflite, checkpoint, tmp_path):
    one = source("tflite-nnapi", PRECISIONS[name], tflite[name], checkpoint)
    assert litert.write(one, tmp_path) == "model.tflite"
    assert not (tmp_path / "litert").exists()
    model = flatbuffer.read(tflite[name] / flatbuffer.MODEL)
    before = versions(model)
    assert not litert.raise_versions(model)
    assert versions(model) == before


def field(table, number):
    """What a flatbuffer table holds in a field, None for nothing."""
    offset = table.Offset(4 + 2 * number)
    return None if offset == 0 else offset + table.Pos


def tables(table, number):
    import flatbuffers

    offset = field(table, number) - table.Pos
    start = table.Vector(offset)
    return [
        flatbuffers.table.Table(table.Bytes, table.Indirect(start + 4 * index))
        for index in range(table.VectorLen(offset))
    ]


def test_the_metadata_names_inputs_output_and_both_files_and_the_files_are_there():
    import flatbuffers

    content = task_metadata.describe("toy")
    assert content[4:8] == b"M001"
    root = flatbuffers.table.Table(bytearray(content), int.from_bytes(content[:4], "little"))

    def name(table, number=0):
        return table.String(field(table, number)).decode()

    assert (name(root), name(root, 7)) == ("toy", "1.5.0")
    (graph,) = tables(root, 3)
    assert [name(table) for table in tables(graph, 2)] == ["ids", "mask", "segment_ids"]
    (output,), (unit,) = tables(graph, 3), tables(graph, 5)
    (labels,) = tables(output, 6)
    assert (name(labels), content[field(labels, 2)]) == ("labels.txt", 2)
    assert content[field(unit, 0)] == 4
    options = flatbuffers.table.Table(unit.Bytes, unit.Indirect(field(unit, 1)))
    (vocabulary,) = tables(options, 0)
    assert (name(vocabulary), content[field(vocabulary, 2)]) == ("vocab.txt", 5)


def test_files_follow_the_model_as_a_zip_of_fixed_date():
    packed = task_metadata.append_files(b"model", {"vocab.txt": "a\n", "labels.txt": "b\n"})
    assert packed.startswith(b"model")
    archive = zipfile.ZipFile(io.BytesIO(packed))
    assert {entry.filename: entry.date_time for entry in archive.infolist()} == dict.fromkeys(
        ("vocab.txt", "labels.txt"), (1980, 1, 1, 0, 0, 0)
    )
    assert archive.read("labels.txt") == b"b\n"


def test_a_litert_bundle_holds_its_forms_and_a_sample_that_answers_as_the_probe_says(tflite, checkpoint, tmp_path):
    data, reference, out = tmp_path / "data", tmp_path / "reference", tmp_path / "bundle"
    (out / "tokenizer").mkdir(parents=True)
    for path in (data, reference):
        with artifact.writing(path, stage="test", parents={}) as temporary:
            artifact.write_json(temporary / "labels.json", list(LABELS))
            artifact.write_json(temporary / "summary.json", toy.summary())
            artifact.write_json(temporary / "evaluation.json", {})
            for split in ("coverage", "probe", "test"):
                artifact.write_arrays(temporary / f"{split}.npz", toy.probe())
    for name in ("model.tflite", "signature.json"):
        (out / name).write_bytes((tflite["static"] / name).read_bytes())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (out / "tokenizer" / name).write_bytes((checkpoint / name).read_bytes())
    places = {"artifact": tflite["static"], "compressed": checkpoint, "data": data, "reference": reference}
    names = {"compression": "none", "target": "tflite-nnapi", "precision": "static_wi8_ai8"}
    variant = Variant(**names, required=True, release_not_measured=False)
    verdict = {**names, "dominated": "", "intervals": {}, "metrics": {}, "notes": [], "reasons": []}
    verdict |= {"runtime": "litert-cpu-xnnpack", "thresholds": toy.thresholds(), "timing": "", "verdict": "pass"}
    settings = Release(forms=["litert"], golden="ids", required=True)
    contents.add(
        out, "toy", variant, PRECISIONS["static"], verdict, {**places, "student": data, "teacher": data}, settings
    )
    assert sorted(path.name for path in (out / "litert").iterdir()) == ["task.tflite"]
    assert derived.differences(out) == []
    task = (out / "litert/task.tflite").read_bytes()
    (out / "litert/task.tflite").write_bytes(task.replace(b"segment_ids", b"segment_idz"))
    assert "other metadata than MediaPipe's" in derived.differences(out)[0]
    (out / "litert/task.tflite").write_bytes(task)
    toy.check_sample(out, "classify_litert.py", ["hello", "word " * 600])


def test_a_core_ml_package_gains_labels_and_sentences_and_nothing_else(mlpackage, checkpoint, tmp_path):
    one = source("coreml-metal", HALF, mlpackage, checkpoint)
    package = tmp_path / coreml_metal.write_package(one, tmp_path)
    before, after = (read_model(model_file(path)) for path in (mlpackage / "model.mlpackage", package))
    described = after.description
    assert json.loads(described.metadata.userDefined["labels"]) == list(LABELS)
    assert list(coreml_metal.differences(package, list(LABELS))) == []
    assert "names other labels" in next(coreml_metal.differences(package, list(LABELS[::-1])))
    assert all(item.shortDescription for item in (*described.input, *described.output))
    assert "[PAD]" not in described.input[0].shortDescription
    weights = "Data/com.apple.CoreML/weights/weight.bin"
    assert (package / weights).read_bytes() == (mlpackage / "model.mlpackage" / weights).read_bytes()
    assert after.mlProgram == before.mlProgram
    assert {path.name for path in (tmp_path / core_ml.TOKENIZER).iterdir()} == {
        "config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt",
    }  # fmt: skip


def test_a_core_ml_package_of_another_program_or_weights_is_refused(mlpackage, checkpoint, tmp_path):
    one = source("coreml-metal", HALF, mlpackage, checkpoint)
    package = tmp_path / coreml_metal.write_package(one, tmp_path)
    weights = package / "Data/com.apple.CoreML/weights/weight.bin"
    intact = weights.read_bytes()
    largest = max(read_blobs(weights), key=lambda blob: blob.size_bytes)
    weights.write_bytes(
        intact[: largest.offset] + bytes(largest.size_bytes) + intact[largest.offset + largest.size_bytes :]
    )
    with pytest.raises(ArtifactError, match=r"'coreml/model.mlpackage' of variant 'toy' is another program"):
        core_ml.check(one, package)
    weights.write_bytes(intact)
    path = model_file(package)
    model = read_model(path)
    model.specificationVersion -= 1
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="is another program"):
        core_ml.check(one, package)
