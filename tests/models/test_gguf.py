"""A GGUF file becomes the checkpoint it was made from, to the bit, or is refused in one line."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM

from stages import prepare, teacher
from stages.core import artifact
from stages.core.errors import InputError
from stages.models import gguf, quarantine
from tests.composed import composed
from tests.toys import gguf_files
from tests.toys.classifiers import LIMITS
from tests.toys.gguf_files import MERGES, POSITIONS, TOKENS, rounded, weights

KINDS = ("F32", "F16", "Q4_0", "Q4_1", "Q8_0")


@pytest.fixture
def unpacked(tmp_path):
    """Write a file (see gguf_files.write), unpack it, and return the directory."""

    def make(limits=LIMITS, **changes):
        path = gguf_files.write(tmp_path / "model.gguf", **changes)
        directory = tmp_path / "unpacked"
        directory.mkdir()
        gguf.unpack(path, directory, limits)
        return directory

    return make


def load(directory, **options):
    model, info = AutoModelForCausalLM.from_pretrained(directory, dtype="float32", output_loading_info=True, **options)
    assert not info["missing_keys"] | info["unexpected_keys"] | info["mismatched_keys"]
    return model.eval()


def read(directory, name):
    return json.loads((directory / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_to_the_bit_what_the_type_keeps_of_the_model_that_was_written(unpacked, kind, tied):
    model = load(unpacked(kind=kind, tied=tied))
    found = dict(model.named_parameters())  # a tied head has the name of the table
    wanted = weights(tied)
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].detach().numpy().tobytes() == rounded(values, kind).tobytes(), name
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


def test_transformers_own_reader_answers_the_same(unpacked):
    """Pairs of a head's rows in llama.cpp's order would answer something else."""
    directory = unpacked(kind="Q4_1")
    ids = torch.randint(0, len(TOKENS), (2, POSITIONS), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours = load(directory)(ids).logits
        theirs = load(directory.parent, gguf_file="model.gguf")(ids).logits
    assert torch.equal(ours, theirs)


def test_a_tensor_in_many_pieces_is_the_same(unpacked, tmp_path, monkeypatch):
    whole = unpacked(kind="Q4_0")
    monkeypatch.setattr(gguf, "PIECE", 7 * gguf_files.WIDTH)
    (tmp_path / "again").mkdir()
    gguf.unpack(tmp_path / "model.gguf", tmp_path / "again", LIMITS)
    assert (tmp_path / "again/model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_settings_are_those_of_the_model(unpacked):
    directory = unpacked(kind="Q8_0")
    config = read(directory, "config.json")
    assert config["rms_norm_eps"] == 1e-05  # the file holds 9.999999747378752e-06
    assert config["rope_parameters"] == {"rope_theta": 50000.0, "rope_type": "default"}
    assert (config["num_key_value_heads"], config["head_dim"], config["max_position_embeddings"]) == (2, 16, POSITIONS)
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (1, 2, 2)
    assert read(directory, "generation_config.json") == {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}


def test_every_token_that_ends_a_text_ends_a_generated_one(unpacked):
    directory = unpacked(settings={"tokenizer.ggml.eot_token_id": 0, "tokenizer.ggml.eom_token_id": 2})
    assert read(directory, "generation_config.json")["eos_token_id"] == [2, 0]


def test_what_is_unpacked_passes_the_quarantine(unpacked):
    with quarantine.checked(unpacked(kind="Q4_1"), LIMITS) as private:
        assert (private / "model.safetensors").is_file()


REFUSED = {
    "another architecture": ({"architecture": "qwen2"}, "holds the architecture 'qwen2'; expected 'llama'"),
    "an adapter": ({"settings": {"general.type": "adapter"}}, "has general.type: 'adapter'"),
    "scaled positions": (
        {"settings": {"llama.rope.scaling.type": "yarn"}},
        "rope.scaling.type: 'yarn'; expected 'none'",
    ),
    "a factor": ({"settings": {"llama.rope.scaling.factor": 8.0}}, "has llama.rope.scaling.factor: 8.0, which is not"),
    "frequencies": (
        {"tensors": {"rope_freqs.weight": np.ones(8, np.float32)}},
        "'rope_freqs.weight' .scaled rotary pos",
    ),
    "a bias": ({"tensors": {"blk.0.attn_q.bias": np.ones(64, np.float32)}}, r"'blk.0.attn_q.bias' \(a bias\)"),
    "experts": ({"settings": {"llama.expert_count": 8}}, "has llama.expert_count: '8'; expected 0"),
    "a lacking weight": (
        {"tensors": {"blk.1.ffn_up.weight": None}},
        "has no tensor 'blk.1.ffn_up.weight'; expected all 20",
    ),
    "a lacking table": ({"tensors": {"token_embd.weight": None}}, "llama.vocab_size: .* and 1 word vectors"),
    "another shape": (
        {"tensors": {"blk.0.attn_v.weight": np.ones((64, 64), np.float32)}},
        r"'blk.0.attn_v.weight' the shape \(64, 64\); expected \(32, 64\)",
    ),
    "sizes by layer": (
        {"settings": {"llama.attention.head_count_kv": [2, 1]}},
        r"head_count_kv: \[2, 1\]; expected a num",
    ),
    "half rotated": (
        {"settings": {"llama.rope.dimension_count": 8}},
        "16 numbers in a key, 16 in a value, and 8 that are rotated",
    ),
    "uneven groups": (
        {"settings": {"llama.attention.head_count_kv": 3}},
        "has 4 heads in 3 groups, .*; expected groups of one size",
    ),
    "no epsilon": ({"settings": {"llama.attention.layer_norm_rms_epsilon": None}}, "rms_epsilon: None; expected a pos"),
    "an unknown setting": (
        {"settings": {"llama.attention.sliding_window": 8}},
        "sliding_window: 8, which is not known",
    ),
    "no numbers of words": ({"settings": {"llama.vocab_size": 7}}, r"vocab_size: 7 and \d+ word vectors"),
    "pieces with likelihoods": (
        {"settings": {"tokenizer.ggml.model": "t5"}},
        "the tokenizer 't5' .*; expected 'gpt2' .* or 'llama'",
    ),
    "a guessed split": ({"settings": {"tokenizer.ggml.pre": "default"}}, "pre: 'default', and how that splits texts"),
    "no split": ({"settings": {"tokenizer.ggml.pre": None}}, "pre: 'None', and how .*; expected one of: gpt-2, smollm"),
    "a space before": (
        {"settings": {"tokenizer.ggml.add_space_prefix": True}},
        "add_space_prefix: True; expected false",
    ),
    "a token twice": ({"settings": {"tokenizer.ggml.tokens": [*TOKENS[:-1], "a"]}}, "has a token twice"),
    "too few tokens": ({"settings": {"tokenizer.ggml.tokens": TOKENS[:-1]}}, r"has \d+ tokens, \d+ kinds of token and"),
    "no kinds": ({"settings": {"tokenizer.ggml.token_type": None}}, r"has \d+ tokens, no kinds of token"),
    "byte tokens": ({"settings": {"tokenizer.ggml.token_type": [6] * len(TOKENS)}}, "has tokens of kind 6"),
    "no merges": ({"settings": {"tokenizer.ggml.merges": None}}, "has no list of texts 'tokenizer.ggml.merges'"),
    "a merge of nothing": ({"settings": {"tokenizer.ggml.merges": ["zz q"]}}, "merges 'zz q', of which its vocabulary"),
    "a merge twice": ({"settings": {"tokenizer.ggml.merges": [*MERGES, MERGES[0]]}}, "has a merge twice"),
    "no end": ({"settings": {"tokenizer.ggml.eos_token_id": None}}, "does not say which token ends a text"),
    "an id of nothing": (
        {"settings": {"tokenizer.ggml.bos_token_id": 5000}},
        "bos_token_id: 5000; expected an id below",
    ),
    "an unnamed first token": (
        {"settings": {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": None}},
        "adds a token before every text and does not say which",
    ),
    "a first token with a meaning": (
        {"settings": {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": TOKENS.index(":")}},
        "puts the token ':' beside texts; expected one without",
    ),
    "no flag": ({"settings": {"tokenizer.ggml.add_bos_token": "yes"}}, "add_bos_token: yes; expected true or false"),
    "no template": ({"settings": {"tokenizer.chat_template": 3}}, "has tokenizer.chat_template: 3; expected a text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_reproduced_is_refused_by_name(unpacked, tmp_path, name):
    changes, refusal = REFUSED[name]
    with pytest.raises(InputError, match=refusal) as caught:
        unpacked(**changes)
    assert f"'{tmp_path / 'model.gguf'}'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not any((tmp_path / "unpacked").iterdir())


def test_another_type_is_refused_by_its_name(tmp_path):
    path = gguf_files.write(tmp_path / "model.gguf", kind="Q5_0")
    with pytest.raises(
        InputError, match="stores tensor 'token_embd.weight' as Q5_0; expected only F32, F16, Q4_0, Q4_1"
    ):
        gguf.unpack(path, tmp_path, LIMITS)


@pytest.mark.parametrize(
    ("lowered", "refusal"),
    [
        ({"layers": 1}, "llama.block_count: 2; expected a number from 1 to 1"),
        ({"integer": 250}, r"announces \d+ values in an array; expected at most 250"),
        ({"parameters": 9000}, "weights; expected at most 9000"),
    ],
)
def test_a_sound_file_is_held_to_the_limits(unpacked, lowered, refusal):
    with pytest.raises(InputError, match=refusal):
        unpacked(limits=LIMITS.model_copy(update=lowered))


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.gguf")
    with pytest.raises(InputError, match="model.gguf' is no regular file"):
        gguf.unpack(tmp_path / "model.gguf", tmp_path, LIMITS)


def test_weights_that_are_no_numbers_come_through_for_import_to_refuse(unpacked):
    """Under scales that overflowed, say: every reader gives these."""
    vector = np.full(gguf_files.WIDTH, np.nan, np.float32)
    model = load(unpacked(tensors={"output_norm.weight": vector}))
    assert torch.isnan(model.model.norm.weight).all()


def test_a_setting_of_any_type_is_taken_or_refused_and_nothing_else(tmp_path):
    refused = 0
    for key in gguf_files.SETTINGS:
        for value in ("x", 7, -1, 0, 3.5, float("inf"), True, ["a"], [1.5]):
            path = gguf_files.write(tmp_path / "model.gguf", settings={key: value})
            try:
                gguf.unpack(path, tmp_path, LIMITS)
            except InputError:
                refused += 1
    assert refused > 100


def test_a_file_with_a_wrong_byte_in_its_header_is_read_or_refused_and_nothing_else(tmp_path):
    path = gguf_files.write(tmp_path / "model.gguf", kind="Q4_0")
    sound, rng = path.read_bytes(), np.random.default_rng(0)
    refusals = []
    for place in rng.integers(0, sound.index(b"output_norm.weight"), 150):
        path.write_bytes(sound[:place] + rng.bytes(1) + sound[place + 1 :])
        try:
            gguf.unpack(path, tmp_path, LIMITS)
        except InputError as error:
            refusals.append(str(error))
    assert 50 < len(refusals) < 150  # a letter of a name may be any
    assert not [refusal for refusal in refusals if "\n" in refusal]


def test_a_file_is_a_teacher_whose_lineage_ends_in_it(tmp_path):
    file = gguf_files.write(tmp_path / "model.gguf", "Q4_1")
    (tmp_path / "book.txt").write_text("\n\n".join(f"Hello, the {n} calls hall {n + 1}." for n in range(900)), "utf-8")
    tree = composed("task=generate", "data=text", f"data.path={tmp_path}/book.txt", "data.piece_characters=20")
    task = {"name": "generate", "max_length": 32, "sequence_lengths": [32]}
    prepare.run(prepare.Params.model_validate({"task": task, "data": tree["data"]}), tmp_path / "data")
    limits = composed("teacher=checkpoint")["teacher"]["limits"]
    told = {"kind": "checkpoint", "path": str(file), "revision": None, "licence": "x", "limits": limits}
    settings = teacher.Params.model_validate({"task": task, "teacher": told})
    teacher.run(settings, tmp_path / "data", tmp_path / "teacher")
    parents = artifact.manifest(tmp_path / "teacher")["parents"]
    assert parents["checkpoint/model.gguf"] == artifact.sha256(file)
    kept = load_file(tmp_path / "teacher/model.safetensors")
    for name, value in weights().items():
        assert np.array_equal(kept[name], rounded(value, "Q4_1")), name
