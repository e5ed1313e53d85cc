"""What ships with an artifact is followed back to the teacher: settings, labels, tokenizer."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from stages.core import artifact
from stages.measure import identity
from stages.measure.meaning import pruned, vocabulary
from stages.tasks.classify.faults import INTERFACE
from tests.toys import bundle as toy

TEXTS = ("hello world", "Lamp songs wake me up", "HELLO me", "cafe")
SPLITS = ("train", "validation", "test", "calibration", "probe")
FREE = ("world", "up")
"""Words that a pruned vocabulary leaves out."""


def encoded(directory):
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.enable_truncation(toy.LENGTH)
    tokenizer.enable_padding(length=toy.LENGTH)
    found = tokenizer.encode_batch(list(TEXTS))
    return {
        "input_ids": np.array([one.ids for one in found], np.int32),
        "attention_mask": np.array([one.attention_mask for one in found], np.int32),
    }


@pytest.fixture
def places(tmp_path):
    """A teacher, a checkpoint that is a copy of it, what was measured with it, and the data."""
    for role in ("teacher", "checkpoint", "converted", "reference", "data"):
        (tmp_path / role).mkdir()
    for role in ("teacher", "checkpoint"):
        for name, content in toy.checkpoint().items():
            (tmp_path / role / name).write_bytes(content)
        edit(tmp_path / role / "config.json", pad_token_id=0, max_position_embeddings=8, num_hidden_layers=4)
        write_tables(tmp_path / role, len(toy.WORDS))
    (tmp_path / "converted/signature.json").write_bytes(toy.signature())
    refer(tmp_path)
    (tmp_path / "data/labels.json").write_text(json.dumps(toy.LABELS), encoding="utf-8")
    for name in SPLITS:
        rows = "".join(json.dumps({"text": text, "label": "no"}) + "\n" for text in TEXTS)
        (tmp_path / "data" / f"{name}.jsonl").write_text(rows, encoding="utf-8")
    return tmp_path


def write_tables(directory, words):
    tables = {"bert.word_embeddings.weight": words, "bert.position_embeddings.weight": 8}
    save_file({name: np.zeros((n, 2), np.float32) for name, n in tables.items()}, directory / "model.safetensors")


def refer(places):
    for name in ("probe", "test", "calibration"):
        artifact.write_arrays(places / "reference" / f"{name}.npz", encoded(places / "checkpoint"))


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def found(places):
    roles = ("checkpoint", "teacher", "converted", "reference", "data")
    return identity.foreign_interface(*(places / role for role in roles))


def prune(places, *gone):
    """Take words out of the checkpoint's tokenizer and tables, as the compression does."""
    rules = toy.tokenizer()
    kept = sorted(index for token, index in vocabulary(rules).items() if token not in gone)
    rules = pruned(rules, {old: new for new, old in enumerate(kept)})
    (places / "checkpoint/tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
    edit(places / "checkpoint/config.json", vocab_size=len(kept))
    write_tables(places / "checkpoint", len(kept))
    refer(places)
    return rules


def test_a_sound_chain_is_silent(places):
    assert found(places) == []
    edit(places / "checkpoint/config.json", num_hidden_layers=2)  # a smaller student
    assert found(places) == []
    prune(places, *FREE)
    assert found(places) == []


@pytest.mark.parametrize("fault", INTERFACE)
@pytest.mark.parametrize("whole", [True, False])
def test_every_fault_in_what_ships_beside_the_artifact_is_named(places, fault, whole):
    if not whole:
        prune(places, *FREE)
    INTERFACE[fault](places / "checkpoint")
    assert found(places)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"problem_type": "multi_label_classification"}, 'problem_type "multi_label_classification", expected null'),
        ({"label2id": {"no": 1, "yes": 0}}, r"label2id that is not the reverse of id2label \('no'\)"),
        ({"label2id": {"no": 0, "yes": 1, "maybe": 2}}, r"label2id .* \('another label'\)"),
        ({"model_type": "albert"}, 'model_type "albert", expected "bert"'),
        ({"architectures": ["BertModel"]}, r"architectures \[\"BertModel\"\], expected"),
        ({"max_position_embeddings": 512}, "max_position_embeddings 512, expected 8"),
        ({"vocab_size": 30522}, "vocab_size 30522, expected 14"),
        ({"pad_token_id": 3}, "pad_token_id 3, (expected|signature.json) 0"),
        ({"task_specific_params": {"text-classification": {"function_to_apply": "sigmoid"}}}, "task_specific_params"),
    ],
)
def test_a_setting_that_clients_read_is_the_teachers_or_follows_from_the_tables(places, changes, said):
    edit(places / "checkpoint/config.json", **changes)
    problems = found(places)
    assert problems
    with pytest.raises(AssertionError, match=said):
        raise AssertionError("; ".join(problems))


def test_a_pad_id_of_teacher_and_checkpoint_that_artifacts_do_not_pad_with_is_named(places):
    for role in ("teacher", "checkpoint"):
        edit(places / role / "config.json", pad_token_id=4)
    assert found(places) == ["config.json has pad_token_id 4, signature.json 0"]


@pytest.mark.parametrize("name", ["normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation"])
def test_a_rule_of_the_tokenizer_is_compared_where_no_probe_text_shows_it(places, name):
    """The decoder cuts no text, and a limit beyond the longest one neither."""
    rules = toy.tokenizer()
    other = {
        "normalizer": {"strip_accents": False},
        "pre_tokenizer": {"type": "Whitespace"},
        "decoder": {"cleanup": False},
    }
    pair = [*rules["post_processor"]["pair"], {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    other |= {"post_processor": {"pair": pair}}
    limit = {"direction": "Right", "max_length": 99, "strategy": "LongestFirst", "stride": 0}
    rules[name] = limit if name == "truncation" else rules[name] | other[name]
    (places / "checkpoint/tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
    (problem,) = found(places)
    assert problem.startswith(f"tokenizer.json does not mean what the teacher's does: {name}")


def test_settings_beside_tokenizer_json_are_the_teachers(places):
    edit(places / "checkpoint/tokenizer_config.json", do_lower_case=False)
    assert found(places) == ["tokenizer_config.json has another 'do_lower_case' than the teacher's"]


def test_a_pruned_vocabulary_keeps_every_rule_and_the_order_of_its_words(places):
    rules = prune(places, *FREE)
    path = places / "checkpoint/tokenizer.json"
    rules["normalizer"]["lowercase"] = False
    path.write_text(json.dumps(rules), encoding="utf-8")
    refer(places)
    lines = found(places)
    assert (
        lines[0] == "tokenizer.json does not mean what the teacher's does: normalizer.lowercase is false, expected true"
    )
    assert "though it has all their tokens" in lines[1]
    rules["normalizer"]["lowercase"] = True
    words = rules["model"]["vocab"]
    words["hello"], words["song"] = words["song"], words["hello"]
    path.write_text(json.dumps(rules), encoding="utf-8")
    refer(places)
    assert "model.vocab" in found(places)[0]


def test_ids_of_every_split_are_those_of_the_reference(places):
    arrays = encoded(places / "checkpoint")
    arrays["input_ids"][1, 2] = 0
    artifact.write_arrays(places / "reference/test.npz", arrays)
    assert found(places) == ["tokenizer.json gives other ids for 1 of 4 test texts"]
    shutil.copyfile(places / "reference/probe.npz", places / "reference/test.npz")
    assert found(places) == []
