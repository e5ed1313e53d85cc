"""A fifth axis goes where every operator takes the last two whole, and stays where one does not."""

import numpy as np
import pytest

from stages.accelerators.nnapi import FL8, refused
from stages.accelerators.tflite_nnapi import graphs
from stages.targets.tflite_nnapi import flatbuffer, ranks, whole
from stages.targets.tflite_nnapi.writer import Entry, File

pytestmark = pytest.mark.target
PARTS = {"query": 0, "key": 1, "value": 2}


def written(path, lengths, cut=(0, 0)):
    """Queries, keys and values cut out of one matrix, as ModernBERT's; `cut` is where the last two axes begin."""
    file = File()
    for length in lengths:
        entry = Entry(file, f"length_{length}")
        given = entry.given("x", [1, length, 24])
        wide = entry.shaped(given, "wide", [1, length, 3, 2, 4])
        left = [2 - cut[0], 4 - cut[1]]
        for name, part in PARTS.items():
            bounds = entry.integers("begin", 0, 0, part, *cut), entry.integers("size", 1, length, 1, *left)
            options = ("SliceOptions", {})
            one = entry.add("SLICE", [wide, *bounds], f"{name}.cut", [1, length, 1, *left], options=options)
            entry.returned(name, entry.shaped(one, name, [1, length, *left]))
    model = file.model()
    for graph in model.subgraphs:
        for operator in graph.operators:
            if flatbuffer.operator_names()[model.operatorCodes[operator.opcodeIndex].builtinCode] == "RESHAPE":
                operator.builtinOptions, operator.builtinOptionsType = None, 0  # as the converter has them
    slices = [code for code in model.operatorCodes if flatbuffer.operator_names()[code.builtinCode] == "SLICE"]
    slices[0].version = 5
    flatbuffer.write(model, path)
    return flatbuffer.read(path)


def answers(path, length):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path), num_threads=1).get_signature_runner(f"length_{length}")
    return runner(x=np.arange(24.0 * length, dtype=np.float32).reshape(1, length, 24))


def test_five_axes_become_four_and_the_numbers_stay_where_they_are(tmp_path):
    path = tmp_path / flatbuffer.MODEL
    model = written(path, (4, 6))
    wanted = {length: answers(path, length) for length in (4, 6)}
    said = [refused(one, FL8) for graph in graphs(tmp_path) for one in graph.operators]
    assert any("axes" in reason for reason in said)
    assert any("version 5" in reason for reason in said)
    assert ranks.fold(model) == 2 * (1 + len(PARTS))
    flatbuffer.write(model, path)
    assert [refused(one, FL8) for graph in graphs(tmp_path) for one in graph.operators] == [""] * len(said)
    for length, found in wanted.items():
        for name, value in answers(path, length).items():
            assert (value == found[name]).all()
    assert not list(whole._unread(flatbuffer.read(path)))


def test_a_cut_through_the_last_axes_keeps_them(tmp_path):
    path = tmp_path / flatbuffer.MODEL
    model = written(path, (4,), cut=(0, 2))
    before = bytes(flatbuffer.packed(model))
    assert ranks.fold(model) == 0
    assert bytes(flatbuffer.packed(model)) == before
