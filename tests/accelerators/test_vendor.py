"""Tests of `accelerators/vendor.py` and its command: what SDKs and their compilers do in silence is one line."""

import sys

import pytest

from stages import ahead
from stages.accelerators import vendor
from stages.core import artifact
from stages.core.errors import ConversionError
from tests.toys.graphs import averaging


@pytest.fixture
def bundle(tmp_path):
    with artifact.writing(tmp_path / "bundle", stage="release", parents={}) as out:
        (out / "model.tflite").write_bytes(b"\x1c\x00\x00\x00TFL3 and no more")
    return tmp_path / "bundle"


def asked(bundle, capsys, *more, chip="SM8750"):
    """Exit code and lines of the command; nothing may be left behind."""
    out = bundle.parent / "out"
    code = ahead.main(["--bundle", str(bundle), "--vendor", "qualcomm", "--chip", chip, "--out", str(out), *more])
    assert not out.exists()
    return code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


def tanh(path):
    """A TFLite file with one operator."""
    from ai_edge_litert import schema_py_generated as schema

    from stages.targets.tflite_nnapi import flatbuffer

    model, graph, one, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TANH
    code.version = 1
    tensors = [schema.TensorT(), schema.TensorT()]
    for name, each in zip(("x", "y"), tensors, strict=True):
        each.name, each.shape, each.type, each.buffer = name, [1, 4], schema.TensorType.FLOAT32, 0
    one.opcodeIndex, one.inputs, one.outputs = 0, [0], [1]
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [1], [one]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    flatbuffer.write(model, path)


def installed(tmp_path, monkeypatch, **files):
    """An SDK's package as pip leaves it, with these libraries."""
    package = tmp_path / "site/ai_edge_litert_sdk_qualcomm"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import pathlib\ndef path_to_sdk_libs():\n    return pathlib.Path(__file__).parent / 'libs'\n", encoding="utf-8"
    )
    (package / "libs").mkdir()
    for name, data in files.items():
        (package / "libs" / f"{name}.so").write_bytes(data)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.delitem(sys.modules, "ai_edge_litert_sdk_qualcomm", raising=False)


def test_nothing_is_compiled_before_the_licence_is_accepted(bundle, capsys):
    code, (line,) = asked(bundle, capsys)
    assert code == 1
    assert "counts as accepting its licence" in line
    assert "--licence-accepted" in line


def test_an_sdk_that_is_not_installed_is_named_and_not_fetched(bundle, capsys):
    code, (line,) = asked(bundle, capsys, "--licence-accepted")
    assert code == 1
    assert "there is no package 'ai_edge_litert_sdk_qualcomm'" in line
    assert "fetches nothing proprietary" in line


@pytest.mark.parametrize("files", [{}, {"libQnnHtp": b""}])
def test_an_sdk_that_installed_empty_is_an_error(bundle, capsys, tmp_path, monkeypatch, files):
    installed(tmp_path, monkeypatch, **files)
    code, (line,) = asked(bundle, capsys, "--licence-accepted")
    assert code == 1
    assert "is installed without its libraries" in line


def test_a_chip_that_the_vendor_does_not_have_lists_those_it_has(bundle, capsys, tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, libQnnHtp=b"not a library")
    code, (line,) = asked(bundle, capsys, "--licence-accepted", chip="SM1")
    assert code == 1
    assert "has no chip 'SM1'" in line
    assert "SM8750" in line


def test_the_real_compiler_on_a_library_that_does_not_load_is_one_line(bundle, capsys, tmp_path, monkeypatch):
    installed(tmp_path, monkeypatch, libQnnHtp=b"not a library")
    code, (line,) = asked(bundle, capsys, "--licence-accepted")
    assert code == 1
    assert "the compiler for qualcomm SM8750 failed: " in line
    assert "The model is not a valid Flatbuffer buffer" in line
    tanh(bundle / "model.tflite")
    code, (line,) = asked(bundle, capsys, "--licence-accepted")
    assert "libQnnHtp.so: file too short" in line


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes and no exception"),
        (b"half a file", "no TFLite file"),
        (b"\x1c\x00\x00\x00TFL3 uncompiled", "nothing was compiled"),
    ],
)
def test_what_a_compiler_leaves_in_silence_is_refused(data, reason):
    with pytest.raises(ConversionError, match=reason):
        vendor.check_compiled(data, "qualcomm SM8750")


def test_a_provider_that_is_listed_and_did_not_load_left_no_context(tmp_path):
    with pytest.raises(ConversionError, match="it did not load"):
        vendor.check_context(tmp_path / "none.onnx")
    (tmp_path / "model.onnx").write_bytes(averaging())
    with pytest.raises(ConversionError, match="leaves Gather, ReduceMean to the CPU"):
        vendor.check_context(tmp_path / "model.onnx")
