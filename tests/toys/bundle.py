"""A checkpoint's files and its ONNX artifact, small enough to write in every test, real enough to run."""

import json
import subprocess
import sys

import numpy as np
import pytest

from stages.schema.gate import Gate
from stages.tasks.classify.interface import CALLS

WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "hello",
    "world",
    "lamp",
    "song",
    "##s",
    "wake",
    "me",
    "up",
    "cafe",
)
LABELS = ("no", "yes")
LENGTH = 8
TASK = {"name": "classify", "max_length": LENGTH, "sequence_lengths": [LENGTH]}
VARIANT = {
    "compression": "none",
    "target": "onnx-cpu",
    "precision": "fp32",
    "required": True,
    "release_not_measured": False,
}
SETTINGS = {
    "precisions": {"fp32": {"kind": "float", "bits": 32}},
    "release": {"forms": ["hf"], "golden": "ids", "required": True},
}
"""What a release of it reads of params.yaml beside variants and key."""


def threshold(metric, unit, **bound):
    return {"metric": metric, "unit": unit, "at_least": None, "at_most": None, "min_n": 10, **bound}


GATE = {
    "baseline": None,
    "every": [threshold("non_finite_count", "count", at_most=0.0)],
    "interval_below_n": 2,
    "targets": {},
    "precisions": {"fp32": [threshold("accuracy", "fraction", at_least=0.75)]},
    "reference": [threshold("accuracy", "fraction", at_least=0.5)],
}
"""conf/gate of a toy build."""


def thresholds():
    """What a verdict of the toy says it was judged by."""
    return Gate.model_validate(GATE).applied("fp32")


def tokenizer(**normaliser):
    """`tokenizer.json` of BERT's kind, as `tokenizers` writes it."""
    plain = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    special = [{"content": word, "id": index, "special": True, **plain} for index, word in enumerate(WORDS[:5])]
    stock = {"clean_text": True, "handle_chinese_chars": True, "lowercase": True, "strip_accents": None}
    piece = {"Sequence": {"id": "A", "type_id": 0}}
    head, tail = ({"SpecialToken": {"id": word, "type_id": 0}} for word in ("[CLS]", "[SEP]"))
    named = {word: {"id": word, "ids": [WORDS.index(word)], "tokens": [word]} for word in ("[CLS]", "[SEP]")}
    frame = {"single": [head, piece, tail], "pair": [head, piece, tail], "special_tokens": named}
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    pieces = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", **stock, **normaliser},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", **frame},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "vocab": vocabulary, **pieces},
    }


def tokenizer_config():
    """`tokenizer_config.json` as transformers 5 saves it: with a class that nobody else knows."""
    names = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "mask", "pad", "sep", "unk")}
    return {"backend": "tokenizers", "model_max_length": LENGTH, "tokenizer_class": "TokenizersBackend", **names}


def checkpoint():
    """File name → bytes of what a bundle reads of a checkpoint."""
    config = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": dict(enumerate(LABELS)),
        "label2id": {label: index for index, label in enumerate(LABELS)},
        "model_type": "bert",
        "vocab_size": len(WORDS),
    }
    files = {"config.json": config, "tokenizer.json": tokenizer(), "tokenizer_config.json": tokenizer_config()}
    return {name: json.dumps(content).encode() for name, content in files.items()}


def summary(**ends):
    """`summary.json` of its reference: how many texts of a split lost their end, none by default."""
    splits = ("train", "validation", "test", "calibration", "probe")
    return {"truncated": {name: {"ends": ends.get(name, 0), "texts": 2} for name in splits}, "max_length": LENGTH}


def signature():
    """`signature.json` of its ONNX artifact."""
    said = {"task": "classify", "sequence_lengths": [LENGTH], "dynamic": True, "tokens": {"pad": 0}}
    return json.dumps({**said, "calls": [call.model_dump() for call in CALLS]}).encode()


def model(seed=0):
    """`model.onnx`: the sum of what each token votes for, int32 ids as our converter writes them."""
    from onnx import TensorProto, helper, numpy_helper

    votes = np.random.default_rng(seed).normal(size=(len(WORDS), len(LABELS))).astype(np.float32)
    constants = [numpy_helper.from_array(votes, "votes"), numpy_helper.from_array(np.array([1]), "tokens")]
    nodes = [
        helper.make_node("Gather", ["votes", "input_ids"], ["voted"], "Gather_0"),
        helper.make_node("Cast", ["attention_mask"], ["weight"], "Cast_1", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weight", "last"], ["column"], "Unsqueeze_2"),
        helper.make_node("Mul", ["voted", "column"], ["counted"], "Mul_3"),
        helper.make_node("ReduceSum", ["counted", "tokens"], ["logits"], "ReduceSum_4", keepdims=0),
    ]
    constants.append(numpy_helper.from_array(np.array([2]), "last"))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT32, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])]
    graph = helper.make_graph(nodes, "toy", inputs, outputs, constants)
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString(deterministic=True)


def probe():
    """Arrays of `probe.npz`: two utterances of unlike lengths."""
    ids = np.array([[2, 5, 6, 3, 0, 0, 0, 0], [2, 7, 9, 8, 10, 11, 12, 3]], np.int32)
    return {"attention_mask": (ids != 0).astype(np.int32), "input_ids": ids, "logits": np.ones((2, 2), np.float32)}


def check_sample(bundle, script, texts):
    """Run a Python sample of a bundle on edge texts, and hold what it prints to the bundle's probe."""
    known = {edge["text"]: edge for edge in json.loads((bundle / "probe.json").read_text(encoding="utf-8"))["edges"]}
    command = [sys.executable, str(bundle / "samples" / script), *texts]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = [line.split("\t") for line in done.stdout.splitlines()]
    assert [answer[0] for answer in answers] == [known[text]["label"] for text in texts]
    wanted = [known[text]["probability"] for text in texts]
    assert [float(answer[1]) for answer in answers] == pytest.approx(wanted, abs=1e-4)
