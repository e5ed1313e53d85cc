"""What a student learns from is made once, holds nothing that it is judged by, and says where it came from."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages import distill, transfer, unlabelled
from stages.compose import check_sources, validate
from stages.core import artifact, splits
from stages.core.errors import ArtifactError, ConfigError, InputError
from stages.models import answered, checkpoint
from stages.models.encode import encode, logits
from stages.schema.plan import derive
from stages.tasks.examples import HELD_OUT, held_out
from tests.composed import composed
from tests.test_distill import SHAPE, TASK, parameters, random_teacher  # noqa: F401 (a fixture)

CONF = yaml.safe_load(Path("conf/transfer/default.yaml").read_text(encoding="utf-8"))


def settings(**changes):
    return transfer.Params.model_validate({"task": TASK, "transfer": {**CONF, **changes}})


@pytest.fixture(scope="module")
def given(random_teacher):  # noqa: F811
    return random_teacher("bert")


@pytest.fixture
def asked(data, given, tmp_path):
    """Ask with some settings, and unlabelled texts from a file for each list of them."""

    def ask(*sources, **changes):
        names = []
        for number, texts in enumerate(sources):
            names.append(str(tmp_path / f"{number}.txt"))
            Path(names[-1]).write_text("\n".join(texts), encoding="utf-8")
        told = settings(text=names, **changes)
        for number, name in enumerate(names):
            place = tmp_path / "text" / str(number)
            unlabelled.run(unlabelled.Params(transfer=told.transfer), Path(name), place)
        transfer.run(told, data, given, tmp_path / "text", tmp_path / "transfer")
        return artifact.require(tmp_path / "transfer")

    return ask


def read(out):
    return artifact.read_arrays(out / "pool.npz"), artifact.read_json(out / "summary.json")


def test_the_teacher_answers_every_text_once_and_as_it_answers_it_alone(asked, given):
    arrays, summary = read(asked(near=[0.5], halves=1))
    assert len(arrays["logits"]) == summary["texts"] == sum(kind["kept"] for kind in summary["kinds"].values())
    assert summary["kinds"].keys() == {"train", "altered", "near", "halves"}
    ids = arrays["input_ids"][-5:]
    mask = (np.arange(16) < arrays["lengths"][-5:, None]).astype(np.int32)
    alone = logits(checkpoint.load_model(given), answered.Encoded(ids, mask, 0))
    np.testing.assert_allclose(arrays["logits"][-5:], alone, atol=1e-5)


def test_nothing_that_a_student_is_judged_by_is_among_the_texts(asked, data, given):
    """A text of each such split comes in by the user's own file, in other letters and spaces too."""
    tokenizer = checkpoint.load_tokenizer(given)
    judged = {name: splits.read_split(data, name).texts for name in HELD_OUT}
    smuggled = [texts[0].replace(" ", "   ") for texts in judged.values()]
    arrays, summary = read(asked(smuggled, ["wake word1 song", "rain word2 lamp"], text_share=0.5, halves=1))
    counts = summary["kinds"]["text"]
    assert {name: counts[name] for name in HELD_OUT} == dict.fromkeys(HELD_OUT, 1)
    assert (counts["made"], counts["kept"]) == (6, 2)
    mask = (np.arange(16) < arrays["lengths"][:, None]).astype(np.int32)
    found = set(answered.same(answered.Encoded(arrays["input_ids"], mask, 0))[summary["kinds"]["train"]["made"] :])
    for texts in judged.values():
        assert not found & set(answered.same(encode(tokenizer, texts, 16)))


def test_a_copy_that_says_what_a_test_text_says_is_left_out(data, given):
    """Halves of two texts are a third one, which lies in the test split here."""
    tokenizer = checkpoint.load_tokenizer(given)
    pool = encode(tokenizer, ["wake word1", "song word2", "wake word2", "wake word2", "song word1"], 16)
    judged = {"test": encode(tokenizer, ["song word1"], 16), "probe": encode(tokenizer, ["wake word1"], 16)}
    kept, counts = answered.sift(pool, {"train": 2, "halves": 3}, judged)
    assert kept.tolist() == [True, True, True, False, False]
    assert counts["halves"] == {"made": 3, "test": 1, "probe": 0, "repeated": 1, "kept": 1}
    assert counts["train"] == {"made": 2, "test": 0, "probe": 0, "repeated": 0, "kept": 2}


def test_a_pool_that_holds_a_test_text_is_refused_by_who_learns_from_it(asked, data, given, tmp_path):
    out = asked()
    arrays, _ = read(out)
    text = held_out(checkpoint.load_tokenizer(given), data, 16)["test"]
    arrays["input_ids"][-1], arrays["lengths"][-1] = text.input_ids[3], text.lengths[3]
    summary = (out / "summary.json").read_bytes()
    with artifact.writing(tmp_path / "forged", stage="transfer", parents={}) as directory:
        artifact.write_arrays(directory / "pool.npz", arrays)
        (directory / "summary.json").write_bytes(summary)
    with pytest.raises(ArtifactError, match=r"holds 1 text\(s\) of the test split"):
        distill.run(parameters(SHAPE), data, given, tmp_path / "forged", tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_unlabelled_texts_are_at_most_their_share_and_repeat_nothing(asked):
    made = [f"word{a} word{b}" for a in range(20) for b in range(20)]
    arrays, summary = read(asked([*made, *made[:7]], text_share=0.25))
    counts = summary["kinds"]["text"]
    assert counts["repeated"] >= 7
    assert summary["text_share"] == pytest.approx(0.25, abs=0.01)
    assert counts["kept"] == summary["texts"] - sum(summary["kinds"][kind]["kept"] for kind in ("train", "altered"))
    assert counts["made"] == sum(value for name, value in counts.items() if name != "made")
    assert (arrays["wanted"][-counts["kept"] :] == splits.UNKNOWN).all()


def test_lineage_names_every_source_by_its_digest(asked, tmp_path):
    parents = artifact.manifest(asked(["wake word1"], ["song word2"]))["parents"]
    assert {"data", "teacher", "text-0", "text-1"} == parents.keys()
    source = artifact.manifest(tmp_path / "text/1")["parents"]["source"]
    assert source == artifact.sha256(tmp_path / "1.txt")


def test_bf16_answers_are_kept_in_half_the_bytes_and_agree(asked):
    exact, half = (read(asked(arithmetic=name))[0]["logits"] for name in ("fp32", "bf16"))
    assert (exact.dtype, half.dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(half, exact, atol=0.1 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "logs.jsonl",
            '{"text": "wake word1"}\n{"utterance": "x"}\n',
            r"line 2 has no column 'text'.*transfer.text_col",
        ),
        ("logs.jsonl", '{"text": 3}\n', "line 1: text is 3; expected a non-empty string"),
        ("logs.csv", "text;label\nwake;x\n", "separated by semicolons, not by commas; next: write it with commas"),
        ("notes.txt", "\n \n", "has no text; expected at least one"),
        ("notes.txt", None, "cannot read"),
    ],
)
def test_a_source_that_cannot_be_used_says_which_line_and_leaves_nothing(name, content, message, tmp_path):
    path = tmp_path / name
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        unlabelled.run(
            unlabelled.Params.model_validate({"transfer": {**CONF, "text": [str(path)]}}), path, tmp_path / "o"
        )
    assert not (tmp_path / "o").exists()


def test_json_lines_csv_and_plain_lines_say_the_same(tmp_path):
    texts = ['wake "word1", now', "song word2"]
    written = {
        "a.jsonl": "".join(json.dumps({"text": text, "more": 1}) + "\n" for text in texts),
        "b.csv": 'id,text\n1,"wake ""word1"", now"\n2,song word2\n',
        "c.log": "\r\n".join(texts),
    }
    for name, content in written.items():
        (tmp_path / name).write_bytes(content.encode())
        told = unlabelled.Params.model_validate({"transfer": {**CONF, "text": [name]}})
        unlabelled.run(told, tmp_path / name, tmp_path / "out")
        assert splits.read_split(tmp_path / "out", "text").texts == texts, name


def test_the_graph_asks_where_a_student_learns_from_more_than_train():
    plan = derive(composed("transfer.text=[logs.txt,faq.csv]"))
    assert plan["texts"] == {"0": {"source": "logs.txt"}, "1": {"source": "faq.csv"}}
    assert plan["transfers"] == {"teacher": {}}
    assert all(path.startswith("build/") for path in plan["transfer"].values())
    for given in (("student=none",), ("transfer=none",)):
        plan = derive(composed(*given))
        assert (plan["transfers"], plan["texts"]) == ({}, {})
        assert all(Path(path).is_file() for path in plan["transfer"].values())
    assert Path(derive(composed())["transfer"]["texts"]).is_file()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("student=small", "transfer=none"),
            "student.pieces is set and transfer.kind is none; expected texts that the t",
        ),
        (("student=small", "distill.hidden_weight=0.5"), "student.pieces is set and distill.hidden_weight is not 0"),
        (("transfer.text=[logs.txt,logs.txt]",), "text names a file twice"),
        (("transfer.text_share=1",), "text_share.*less than 1"),
        (("transfer.near=[0]",), "near.*greater than 0"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_while_composing(given, message):
    with pytest.raises(ConfigError, match=message):
        validate(composed(*given))


def test_a_source_that_is_not_there_stops_the_build_before_dvc_does():
    plan = composed("transfer.text=[nowhere/logs.txt]")["plan"]
    with pytest.raises(InputError, match=r"transfer.text\[0\]: 'nowhere/logs.txt' does not exist"):
        check_sources(plan)
