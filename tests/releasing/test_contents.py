"""What stands beside the artifact: limits, probe, card and samples that run."""

import json

import pytest

from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.releasing import contents
from stages.schema.release import Release
from stages.schema.variant import Float, Variant
from tests.toys import bundle as toy

VARIANT = Variant(compression="none", target="onnx-cpu", precision="fp32", required=True, release_not_measured=False)
VERDICT = {
    "compression": "none", "dominated": "", "precision": "fp32", "reasons": [], "runtime": "onnxruntime-cpu",
    "target": "onnx-cpu", "thresholds": toy.thresholds(), "timing": "no timer", "verdict": "pass",
    "intervals": {"accuracy": [0.85, 0.92]}, "metrics": {"accuracy": 0.9, "n": 500, "size_bytes": 2_000_000},
    "notes": ["measured with care"],
}  # fmt: skip
UTTERANCES = ("hello world", "lamp songs wake me up")


@pytest.fixture
def places(tmp_path):
    """The stage outputs behind a bundle, as far as they are read."""
    outputs = {
        "artifact": {"model.onnx": toy.model(), "signature.json": toy.signature()},
        "compressed": toy.checkpoint(),
        "data": {
            "labels.json": json.dumps(toy.LABELS).encode(),
            "probe.jsonl": "".join(json.dumps({"text": text, "label": "no"}) + "\n" for text in UTTERANCES).encode(),
        },
        "reference": {"summary.json": json.dumps(toy.summary(train=1, test=2)).encode()},
        "student": {"evaluation.json": b"{}"},
        "teacher": {},
    }
    for role, files in outputs.items():
        with artifact.writing(tmp_path / role, stage=role, parents={}) as temporary:
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            if role == "reference":
                for split in ("coverage", "probe", "test"):
                    artifact.write_arrays(temporary / f"{split}.npz", toy.probe())
    return {role: tmp_path / role for role in outputs}


@pytest.fixture
def bundle(places, tmp_path):
    def write(*forms, golden="ids", name="bundle", verdict=VERDICT):
        out = tmp_path / name
        (out / "tokenizer").mkdir(parents=True)
        for file in ("model.onnx", "signature.json"):
            (out / file).write_bytes((places["artifact"] / file).read_bytes())
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (out / "tokenizer" / file).write_bytes((places["compressed"] / file).read_bytes())
        settings = Release(forms=list(forms), golden=golden, required=True)
        contents.add(out, "toy", VARIANT, Float(kind="float", bits=32), verdict, places, settings)
        return out

    return write


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_form_is_there_when_asked_for_and_named_when_left_out(bundle):
    everything = read(bundle("hf", "ort", "text") / "limits.json")
    assert {name: form["path"] for name, form in everything["forms"].items()} == {
        "hf": "hf/onnx/model.onnx", "onnx": "model.onnx", "ort": "ort/model.ort", "text": "text/model.onnx",
    }  # fmt: skip
    assert everything["left_out"] == {}
    nothing = bundle(name="bare")
    assert read(nothing / "limits.json")["left_out"] == dict.fromkeys(("hf", "ort", "text"), "not among release.forms")
    assert not (nothing / "hf").exists()
    assert [path.name for path in (nothing / "samples").iterdir()] == ["classify_onnx.py"]


def test_a_tokenizer_that_a_client_would_read_otherwise_keeps_that_client_out_with_the_reason(bundle, places):
    (places["compressed"] / "tokenizer.json").write_text(json.dumps(toy.tokenizer(lowercase=False)), encoding="utf-8")
    assert read(bundle("hf", "ort", "text") / "limits.json")["left_out"] == {"text": "the tokenizer keeps upper case"}


def test_limits_say_what_an_input_may_be(bundle):
    limits = read(bundle() / "limits.json")
    assert (limits["max_length"], limits["padded"], limits["labels"]) == (toy.LENGTH, False, 2)
    assert limits["special_tokens"]["sep_token"] == {"id": 3, "token": "[SEP]"}
    assert "after adding the special tokens" in limits["truncation"]["transformers_js"]


def test_the_probe_has_ids_and_answers_and_no_utterance_unless_conf_says_so(bundle):
    quiet = bundle() / "probe.json"
    probe = read(quiet)
    assert [row["ids"] for row in probe["utterances"]] == [[2, 5, 6, 3], [2, 7, 9, 8, 10, 11, 12, 3]]
    assert not [text for text in UTTERANCES if text in quiet.read_text(encoding="utf-8")]
    assert {row["label"] for row in probe["utterances"]} <= set(toy.LABELS)
    assert all(0.5 <= row["probability"] <= 1 for row in (*probe["utterances"], *probe["edges"]))
    spoken = read(bundle(golden="text", name="spoken") / "probe.json")
    assert [row["text"] for row in spoken["utterances"]] == list(UTTERANCES)


def test_labels_of_another_order_than_the_datas_ship_nothing(bundle, places):
    (places["data"] / "labels.json").write_text(json.dumps(toy.LABELS[::-1]), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"names other labels than .*same order"):
        bundle()


def test_the_card_shows_what_was_measured_and_what_was_not(bundle):
    card = (bundle("hf") / "README.md").read_text(encoding="utf-8")
    assert "| accuracy on the test split | 90 % | 85 to 92 |" in card
    assert "No latency is known: no timer." in card
    assert "- Longer than 8 tokens, and read without their end: train 1 of 2, test 2 of 2." in card
    assert "measured with care" in card
    bar = {"interval": [0.86, 0.94], "method": "words", "metric": "accuracy", "value": 0.905}
    figures = {"accuracy_over_bar": (-0.005, [-0.05, 0.04]), "accuracy_kept_of_teacher": (0.985, [0.97, 0.995])}
    held = {
        "bar": bar,
        "metrics": VERDICT["metrics"] | {name: value for name, (value, _) in figures.items()},
        "intervals": VERDICT["intervals"] | {name: ends for name, (_, ends) in figures.items()},
    }
    card = (bundle(name="held", verdict=VERDICT | held) / "README.md").read_text(encoding="utf-8")
    assert "| accuracy above the honesty bar | -0.5 points | -5 to 4 |" in card
    assert "| of the teacher's accuracy, kept | 98.5 % | 97 to 99.5 |" in card
    assert "Honesty bar, words: accuracy 90.5 % (95 %: 86 to 94)." in card
    interpreted = bundle(name="other", verdict=VERDICT | {"runtime": "reference-interpreted"}) / "README.md"
    assert "**Not run by Core ML**" in interpreted.read_text(encoding="utf-8")


def test_the_python_sample_answers_as_the_probe_says(bundle):
    out = bundle()
    toy.check_sample(out, "classify_onnx.py", ["hello", "HELLO World", "word " * 600])
