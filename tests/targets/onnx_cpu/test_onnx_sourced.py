"""Weights of a GGUF file stay what the file holds, bit for bit, and the artifact answers as fp32 does."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from stages.core.errors import InputError
from stages.injecting.catalogue import NotApplicable, Subject
from stages.injecting.inject import open_editor
from stages.models import gguf
from stages.models.families import family_of, find
from stages.schema.task import Task
from stages.schema.variant import SourceBlocks
from stages.targets.onnx_cpu import decoder, graph, source_grid, weights
from stages.targets.stored import compare_structure
from stages.tasks.generate.faults import STORED
from stages.tasks.generate.interface import CALLS
from tests.targets.onnx_cpu.test_onnx_shared_table import TARGET, altered, answers, first_logits, quantized
from tests.toys import gguf_files
from tests.toys.classifiers import LIMITS

pytestmark = pytest.mark.target
PRECISION = SourceBlocks(kind="source", granularity="block_32")
TASK = Task(name="generate", max_length=16, sequence_lengths=[16])


def converted_from(place, kind, tied=True, change=lambda tensors: None):
    """A GGUF file of two layers, imported and converted."""
    gguf_files.write(place / "model.gguf", kind=kind, tied=tied)
    checkpoint = place / "checkpoint"
    checkpoint.mkdir()
    gguf.unpack(place / "model.gguf", checkpoint, LIMITS)
    tensors = load_file(checkpoint / "model.safetensors")
    change(tensors)
    out = place / "converted"
    out.mkdir()
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    decoder.convert(family_of(config).decoder(config, tensors), CALLS, TASK, TARGET, out)
    return out


def table_in_8_bits(tensors):
    """As llama.cpp quantises to 4 bits: the table that is the head too gets 8."""
    table = gguf_files.weights()["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = gguf_files.rounded(table, "Q8_0")


CASES = {
    "Q4_0": {"kind": "Q4_0"},
    "Q4_1": {"kind": "Q4_1"},
    "Q4_1, a table of 8 bits": {"kind": "Q4_1", "change": table_in_8_bits},
    "Q4_1, a head of its own": {"kind": "Q4_1", "tied": False},
    "Q8_0": {"kind": "Q8_0"},
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    found = {}
    for name, case in CASES.items():
        place = tmp_path_factory.mktemp("sourced")
        converted = converted_from(place, **case)
        found[name] = converted, quantized(converted, PRECISION, place / "artifact")
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_weight_is_the_files_to_the_bit_and_answers_are_those_of_fp32(name, pairs):
    converted, artifact = pairs[name]
    found, _ = compare_structure("onnx-cpu", converted, artifact)
    assert found["values"] == {"structure_difference_count": 0, "weights_beyond_count": 0}
    assert found["differences"] == []
    stored, wanted = weights.weights(artifact), weights.weights(converted)
    assert stored.keys() == wanted.keys()
    assert all(np.array_equal(stored[key], wanted[key]) for key in wanted)
    expected, given = answers(converted), answers(artifact)
    assert np.abs(given - expected).max() < 2e-6 * np.ptp(expected)


@pytest.mark.parametrize(("name", "bits"), [("Q4_0", 4.6), ("Q4_1", 5.3), ("Q8_0", 9.1)])
def test_a_weight_takes_the_bits_that_the_file_gives_it(name, bits, pairs):
    model = graph.load(pairs[name][1] / graph.MODEL)
    elements = sum(value.size for value in weights.weights(pairs[name][1]).values())
    aside = ("identity", "members", "cosine", "sine")  # one of each in a model of any size
    kept = [item for item in model.graph.initializer if not any(part in item.name for part in aside)]
    assert sum(8 * len(item.raw_data) for item in kept if len(item.dims) > 1) < bits * elements


def test_several_tokens_at_once_and_one_by_one_end_in_the_same_answer(pairs):
    from stages.targets.onnx_cpu import runtime

    session = runtime.open_runtime(pairs["Q4_1, a table of 8 bits"][1], 1)
    ids = np.arange(12, dtype=np.int32)[None]
    whole = session.run("decode", {"input_ids": ids}, session.new_state())["logits"][0, -1]
    assert np.abs(whole - answers(pairs["Q4_1, a table of 8 bits"][1])[-1]).max() < 2e-6 * np.ptp(whole)


@pytest.mark.parametrize("name", CASES)
def test_answers_are_the_same_with_the_runtimes_optimisations_off(name, pairs):
    import onnxruntime

    level = onnxruntime.GraphOptimizationLevel
    plain, usual = (first_logits(pairs[name][1], one) for one in (level.ORT_DISABLE_ALL, level.ORT_ENABLE_ALL))
    assert np.abs(plain - usual).max() < 2e-6 * np.ptp(usual)


CHANGES = {
    "a minimum": ("_minimum_stored", lambda value: value + np.float16(0.01)),
    "a scale": ("_scale_stored", lambda value: value * np.float16(1.01)),
    "a level": ("_quantized", lambda value: value ^ 1),
    "what the kernel is asked": ("_identity", lambda value: value[::-1]),
    "sums of other blocks": ("_members", lambda value: value[::-1]),
    "another middle": ("_middle", lambda value: value + 1),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_constant_that_changed_is_seen(what, pairs, tmp_path):
    ending, change = CHANGES[what]

    def damage(model, values):
        name = next(name for name in values if name.endswith(ending))
        values[name] = np.ascontiguousarray(change(values[name]))

    converted, artifact = pairs["Q4_1, a table of 8 bits"]
    found, _ = compare_structure("onnx-cpu", converted, altered(artifact, tmp_path / "damaged", damage))
    assert found["values"]["structure_difference_count"] + found["values"]["weights_beyond_count"] > 0


def test_a_part_of_an_activation_that_is_left_out_is_a_difference(pairs, tmp_path):
    def cut(model, values):
        for node in model.graph.node:
            if node.op_type == "Concat":
                node.input[2] = node.input[1]

    converted, artifact = pairs["Q8_0"]
    found, _ = compare_structure("onnx-cpu", converted, altered(artifact, tmp_path / "cut", cut))
    assert found["values"]["structure_difference_count"] > 0


@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_a_file_without_blocks_is_refused_by_the_weight(kind, tmp_path):
    with pytest.raises(InputError, match=r"has numbers that no file in Q4_0, Q4_1 or Q8_0 holds; expected weights as"):
        quantized(converted_from(tmp_path, kind), PRECISION, tmp_path / "artifact")


def test_one_weight_that_moved_by_a_bit_is_refused(tmp_path):
    def move(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"][3, 5] *= np.float32(1 + 2e-7)

    with pytest.raises(InputError, match=r"'layers.1.mlp.up_proj.weight' has numbers"):
        quantized(converted_from(tmp_path, "Q4_1", change=move), PRECISION, tmp_path / "artifact")


def blocks(levels, scale, least=None):
    """Rows of one block."""
    levels, scale = np.asarray(levels, np.float32), np.asarray(scale, np.float16).astype(np.float32)[:, None]
    return (
        levels * scale if least is None else levels * scale + np.asarray(least, np.float16).astype(np.float32)[:, None]
    )


@pytest.mark.parametrize(("bits", "least"), [(4, None), (4, [0.25, -3, 1e-4, 0, 7]), (8, None)])
def test_blocks_that_other_programs_write_are_found_too(bits, least):
    """Levels that do not reach the ends, scales below zero or of few bits, one value, and none."""
    random, half = np.random.default_rng(0), 2 ** (bits - 1)
    low = 0 if least else -half
    levels = random.integers(low, low + 2 * half, (5, 32))
    levels[1] = np.clip(levels[1], low + 2, low + 2 * half - 5)
    levels[2], levels[4] = levels[2, 0], 0
    matrix = blocks(levels, [0.5, -0.0311, 6e-8, 0.1, 0], least)
    found = source_grid.find(matrix)
    assert found is not None
    assert np.array_equal(found.expanded(), matrix)
    assert (found.minimum is None) == (least is None)
    assert found.bits == bits


def test_numbers_between_levels_and_rows_of_other_widths_lie_on_no_grid():
    matrix = blocks(np.tile(np.arange(-8, 8), (2, 2)), [0.5, 0.25])
    assert source_grid.find(matrix) is not None
    moved = matrix.copy()
    moved[1, 4] += np.float32(0.1)
    assert source_grid.find(moved) is None
    assert source_grid.find(matrix[:, :24]) is None


def damaged(directory, checkpoint, out, fault=lambda subject: None):
    """A copy of an artifact, opened for a fault and saved."""
    shutil.copytree(directory, out)
    editor = open_editor("onnx-cpu", out)
    parts, random = find("llama").parts, np.random.default_rng(0)
    fault(Subject(editor, checkpoint, 0.0, gguf_files.HEADS, parts, random, (1e-5,), gguf_files.GROUPS))
    editor.save()
    return out


@pytest.mark.parametrize("name", ["Q4_1, a table of 8 bits", "Q4_0"])
def test_every_fault_that_applies_is_seen_and_what_is_only_opened_is_not(name, pairs, tmp_path):
    converted, artifact = pairs[name]
    checkpoint = load_file(converted.parent / "checkpoint" / "model.safetensors")
    found, _ = compare_structure("onnx-cpu", converted, damaged(artifact, checkpoint, tmp_path / "opened"))
    assert set(found["values"].values()) == {0}
    killed = set()
    for fault, apply in STORED.items():
        try:
            place = damaged(artifact, checkpoint, tmp_path / fault, apply)
        except NotApplicable:
            continue
        found, _ = compare_structure("onnx-cpu", converted, place)
        assert sum(found["values"].values()) > 0, fault
        killed.add(fault)
    assert killed >= {"flipped_bit", "half_norm", "stale_slot", "stale_weights", "swapped_groups", "wrong_rotary_base"}
