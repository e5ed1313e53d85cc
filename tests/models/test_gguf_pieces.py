"""Pieces with scores become the tokenizer whose ids the `sentencepiece` package makes of them."""

import io
import random

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from transformers import AutoTokenizer

from stages.core.errors import InputError
from stages.measure.edges import EDGES
from stages.models import gguf, gguf_pieces
from tests.toys import gguf_files
from tests.toys.classifiers import LIMITS

CORPUS = [f"the lamp number {n} is on, is it not? {n * 7} lamps!! banana {n}  ababab caf\u00e9" for n in range(300)]


@pytest.fixture(scope="module")
def trained():
    """A model as LLaMA's is set up: BPE, bytes for what has no piece, nothing normalised, a space put first."""
    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=written,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    return ModelProto.FromString(written.getvalue())


def settings(proto, **changes):
    found = {
        "model": "llama",
        "pre": "default",
        "tokens": [piece.piece for piece in proto.pieces],
        "scores": [piece.score for piece in proto.pieces],
        "token_type": [piece.type for piece in proto.pieces],
        "merges": None,
        "add_bos_token": None,
        "padding_token_id": None,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in {**found, **changes}.items()} | {
        "llama.vocab_size": len(proto.pieces)
    }


@pytest.fixture
def unpacked(tmp_path, trained):
    def make(**changes):
        table = np.zeros((len(trained.pieces), gguf_files.WIDTH), np.float32)
        path = gguf_files.write(
            tmp_path / "model.gguf", settings=settings(trained, **changes), tensors={"token_embd.weight": table}
        )
        gguf.unpack(path, tmp_path, LIMITS)
        return AutoTokenizer.from_pretrained(tmp_path)

    return make


def texts():
    rng = random.Random(0)
    runs = [letter * length for letter in " a!7b" for length in range(1, 40)]
    mixed = ["".join(rng.choices("abn 7!the lmp\u00e9\n", k=rng.randint(1, 30))) for _ in range(2000)]
    return [*EDGES.values(), *CORPUS[:20], *runs, *mixed, "\u2581", "a\u2581b", "<0x41>", "x  5", "\u0663", "e\u0301"]


@pytest.mark.parametrize("prefix", [True, False])
def test_ids_are_those_of_sentencepiece_behind_the_first_that_llama_cpp_adds(unpacked, trained, prefix):
    tokenizer = unpacked(add_space_prefix=prefix)
    proto = ModelProto.FromString(trained.SerializeToString())
    proto.normalizer_spec.add_dummy_prefix = prefix
    own = SentencePieceProcessor(model_proto=proto.SerializeToString())
    for text in texts():
        ids = tokenizer(text).input_ids
        assert ids == [1, *own.encode(text)], text
        assert tokenizer.decode(ids[1:]) == text.replace("\u2581", " ")


def test_a_text_behind_a_control_token_begins_as_a_text_does(unpacked, trained):
    """As in llama.cpp, and in the tokenizers of the checkpoints that LLaMA 2's vocabulary came with."""
    tokenizer = unpacked()
    assert tokenizer("</s>the").input_ids == [1, 2, *tokenizer("the").input_ids[1:]]


def test_runs_of_spaces_may_share_a_score(trained):
    """Llama 2's do: the model here gets them, for a longest of 16."""
    proto = ModelProto.FromString(trained.SerializeToString())
    known = {piece.piece for piece in proto.pieces}
    for run in sorted({*gguf_pieces.RUNS} - known, key=len):
        proto.pieces.add(piece=run, score=-1e9, type=1)
    for piece in proto.pieces:
        piece.score = -1e9 if piece.piece in gguf_pieces.RUNS else piece.score
    own = SentencePieceProcessor(model_proto=proto.SerializeToString())
    tokens, scores = [piece.piece for piece in proto.pieces], [piece.score for piece in proto.pieces]
    rules = gguf_pieces.rules("x.gguf", tokens, scores, [piece.type == 1 for piece in proto.pieces], "<unk>", True)
    for text in [*(" " * length for length in range(80)), *texts()]:
        assert rules.encode(text).ids == own.encode(text), text


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"scores": None}, r"does not have a score for each of its 400 tokens"),
        ({"scores": [0.0] * 400}, r"gives \d+ pieces \('.*', …\) the score -?0; expected an order"),
        ({"scores": [float("nan")] * 400}, "does not have a score for each"),
        ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces: True; expected false"),
        ({"token_type": [4] * 400}, r"has tokens of kind 4 .*; expected of \[1, 2, 3, 6\]"),
        ({"precompiled_charsmap": [1, 2]}, r"precompiled_charsmap: \[1, 2\], which is not known here"),
    ],
)
def test_what_ranks_do_not_express_is_refused(unpacked, changes, refusal):
    with pytest.raises(InputError, match=refusal):
        unpacked(**changes)


def test_a_vocabulary_made_to_have_many_merges_is_refused_early():
    words = [f"{n:b}" for n in range(1, 3000)]
    tokens = [*sorted(gguf_pieces.BYTES), *words, "0"]
    scores = [-float(n) for n in range(len(tokens))]
    with pytest.raises(InputError, match="long or made in too many ways"):
        gguf_pieces.rules("x.gguf", [*tokens, "1" * 65], [*scores, -9e9], [True] * (len(tokens) + 1), None, True)
