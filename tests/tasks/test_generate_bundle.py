"""A language model's bundle says how it is used, holds greedy text to check a client with, and has samples that run."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import TypeAdapter
from tokenizers import Tokenizer

from stages import demo
from stages.asking import browser, comparison, question, roster
from stages.asking.answers import Item
from stages.asking.interview import NODE_MODULES, interview
from stages.core import artifact
from stages.measure.edges import EDGES
from stages.releasing import card, contents, derived
from stages.releasing.forms import configured, of_task
from stages.reporting.demo import MODULES
from stages.schema.clients import Bound
from stages.schema.release import Release
from stages.schema.variant import Precision, Variant
from stages.targets import registry
from stages.tasks.generate import clients
from stages.tasks.generate.forms import genai
from tests.clients.chromium import opened
from tests.composed import composed
from tests.toys.language_build import LENGTH, TASK, lowered

pytestmark = pytest.mark.target
EXACT = Bound(top1_agreement=1.0, probability_difference=0.001)
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
TEMPLATE = "{% for turn in messages %}<s>{{ turn.content }}{% endfor %}"


@pytest.fixture
def bundled(build, tmp_path, monkeypatch):
    """Return what writes the bundle of a precision."""
    monkeypatch.setattr(card, "write", lambda *_: None)

    def write(precision, compressed=build / "none", forms=("hf",)):
        artifact_dir, _, _ = lowered(build, precision)
        out = tmp_path / f"bundle-{len(list(tmp_path.iterdir()))}"
        (out / "tokenizer").mkdir(parents=True)
        for name in ("model.onnx", "signature.json"):
            shutil.copy2(artifact_dir / name, out)
        for name in FILES:
            if (compressed / name).is_file():
                shutil.copy2(compressed / name, out / "tokenizer")
        places = {"artifact": artifact_dir, "compressed": compressed, "reference": build / "reference"}
        settings = Release(forms=list(forms), golden="ids", required=True)
        told = {"compression": "none", "target": "onnx-cpu", "precision": precision}
        variant = Variant(**told, required=True, release_not_measured=False)
        lowering = TypeAdapter(Precision).validate_python(composed()["precisions"][precision])
        contents.add(out, "toy", variant, lowering, {}, {**places, "data": build / "data"}, settings)
        return out

    return write


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_bundle_says_what_begins_a_text_and_what_ends_it(bundled):
    out = bundled("fp32")
    assert derived.differences(out) == []
    said = read(out / "limits.json")
    begin = {"begins_with": [0], "chat_template": None, "defaults": {}, "ends_with": [], "stop_ids": [0]}
    assert said["generation"] == begin
    assert said["truncation"]["rule"].startswith(f"A text and its continuation have {LENGTH} tokens at most")
    assert said["forms"].keys() == {"onnx", "hf", "genai"}
    assert said["left_out"] == {"ort": "not among release.forms"}
    assert read(out / "hf/tokenizer_config.json")["add_bos_token"] is True
    assert read(out / "hf/generation_config.json")["max_length"] == LENGTH
    genai = read(out / "hf/genai_config.json")
    assert genai["search"]["max_length"] == LENGTH
    assert genai["model"]["decoder"]["filename"] == "onnx/model.onnx"
    sizes = {
        name: genai["model"]["decoder"][name] for name in ("head_size", "num_hidden_layers", "num_key_value_heads")
    }
    assert sizes == {"head_size": 8, "num_hidden_layers": 2, "num_key_value_heads": 2}
    assert (out / "hf/onnx/model.onnx").read_bytes() == (out / "model.onnx").read_bytes()


def test_each_precision_lies_where_transformers_js_looks_for_it(bundled):
    out = bundled("weight_only_wi4b32")
    assert read(out / "limits.json")["forms"]["hf"] == {
        "clients": read(out / "limits.json")["forms"]["hf"]["clients"], "dtype": "q4", "path": "hf/onnx/model_q4.onnx",
    }  # fmt: skip
    assert read(out / "hf/genai_config.json")["model"]["decoder"]["filename"] == "onnx/model_q4.onnx"
    assert not (bundled("fp32", forms=()) / "hf").exists()


def test_the_sample_writes_the_golden_text_and_says_what_ended_it(bundled):
    out = bundled("fp32")
    golden = read(out / "golden.json")["prompts"]
    assert [prompt["text"] for prompt in golden] == ["", "The", "1 + 1 ="]
    texts = [prompt["text"] for prompt in golden]
    command = [sys.executable, str(out / "samples/generate_onnx.py"), *texts]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed == "".join(f"{prompt['full_text']}\n[ended by {prompt['ended_by']}]\n" for prompt in golden)
    for prompt in golden:
        assert len(prompt["margins"]) == len(prompt["continuation"])
        ended = len(prompt["ids"]) + len(prompt["continuation"]) == LENGTH
        assert prompt["ended_by"] == ("max_length" if ended else "a stop id") or prompt["continuation"][-1] == 0
    command[2:] = [EDGES["more than any maximum"]]
    assert "at least 1 and fewer than 24 are taken" in subprocess.run(command, capture_output=True, text=True).stderr


def test_a_chat_template_ships_where_clients_look_for_it_and_is_shown_by_an_example(bundled, build, tmp_path):
    from stages import reference

    chatty = tmp_path / "chatty"
    shutil.copytree(build / "none", chatty)
    (chatty / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    manifest = artifact.read_json(chatty / "manifest.json")
    path = chatty / "chat_template.jinja"
    manifest["files"][path.name] = {"sha256": artifact.sha256(path), "size_bytes": path.stat().st_size}
    artifact.write_json(chatty / "manifest.json", manifest)
    settings = reference.Params.model_validate({"task": {**TASK, "max_length": 64, "sequence_lengths": [64]}})
    reference.run(settings, build / "data", chatty, tmp_path / "reference")
    written = artifact.read_arrays(tmp_path / "reference/greedy.npz")
    (row,) = [row for row, text in enumerate(written["prompt"]) if "colour" in text]
    assert written["prompt"][row] == "<s>Name a colour."
    assert written["ids"][row][0] == 0  # once: the template has it already
    out = bundled("fp32", chatty)
    assert read(out / "limits.json")["generation"]["chat_template"] == "tokenizer/chat_template.jinja"
    assert read(out / "hf/tokenizer_config.json")["chat_template"] == TEMPLATE
    (out / "tokenizer/chat_template.jinja").write_text("other", encoding="utf-8")
    assert "'hf/tokenizer_config.json' is not what follows" in derived.differences(out)[0]


def reworded(path):
    said = read(path)
    said["prompts"][1]["full_text"] += "!"
    artifact.write_json(path, said)


EDITS = {
    "'golden.json' writes 'The' on in another text than its ids": lambda out: reworded(out / "golden.json"),
    "'hf/onnx/model.onnx' is not 'model.onnx'": lambda out: (out / "hf/onnx/model.onnx").write_bytes(b""),
    "'hf/tokenizer_config.json' is not what follows": lambda out: artifact.write_json(
        out / "hf/tokenizer_config.json", read(out / "hf/tokenizer_config.json") | {"add_bos_token": False}
    ),
}


@pytest.mark.parametrize("said", EDITS)
def test_an_edited_copy_is_named(said, bundled):
    out = bundled("fp32")
    EDITS[said](out)
    (difference,) = derived.differences(out)
    assert difference.startswith(said)


def test_targets_without_forms_of_their_own_ship_the_artifact():
    assert {form.configured for form in configured("generate")} >= {"hf"}
    for target in ("coreml-metal", "tflite-nnapi"):
        assert of_task("generate").of_target(target).FORMS


def test_the_sample_is_asked_as_a_client_and_repeats_the_artifact(bundled):
    out = bundled("fp32")
    chosen = clients.CLIENTS[0]
    items, reference = map(list, zip(*clients.asked({}, out, None), strict=True))
    session = registry.runtime("onnx-cpu").open_runtime(out, threads=1)
    own = [clients.own(session, {"input_ids": np.array([item.ids], np.int32)}, item) for item in items]
    assert [answer.ids for answer in own] == [answer.ids for answer in reference]
    edge = Item("the fox", [0, *read_ids(out, "the fox")], "an edge")
    answers = question.Answers(own, [clients.own(session, {}, edge)])
    asked = question.Question("generate", [], LENGTH, items, [edge], answers, answers, reference)
    found = comparison.judge(asked, answers, interview(chosen, asked, out), EXACT, chosen.reads_text)
    assert (found["verdict"], found["n"], found["tokens_equal"]) == ("pass", 3, 3)
    assert found["edges"]["different"] == []
    (out / "tokenizer/tokenizer.json").write_text("{}", encoding="utf-8")
    assert "refused" in interview(chosen, asked, out)


def read_ids(bundle, text):
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer/tokenizer.json"))
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.fixture
def release(bundled, tmp_path):
    """A release of one variant, as the demo page reads it."""
    out = bundled("fp32")
    shown = {"perplexity": 2.5}
    verdict = {"metrics": shown, "intervals": {"perplexity": [2.4, 2.6]}, "counts": {"perplexity": 345}}
    artifact.write_json(out / "verdict.json", verdict)
    release = tmp_path / "release"
    shutil.copytree(out, release / "onnx-cpu-fp32")
    with artifact.writing(release / "onnx-cpu-fp32-manifest", stage="release", parents={}):
        pass
    shutil.move(release / "onnx-cpu-fp32-manifest/manifest.json", release / "onnx-cpu-fp32")
    shutil.rmtree(release / "onnx-cpu-fp32-manifest")
    return release


def page(release, modules, out):
    code = demo.main(["--release", str(release), "--modules", str(modules), "--out", str(out)])
    return code, out / "index.html"


def test_the_page_holds_everything_and_no_text_can_end_the_block_it_stands_in(release, tmp_path):
    for path in MODULES.values():
        (tmp_path / "modules" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "modules" / path).write_bytes(b"nothing to run")
    probe = read(release / "onnx-cpu-fp32/hf/tokenizer_config.json") | {"note": "</script><script>alert(1)</script>"}
    artifact.write_json(release / "onnx-cpu-fp32/hf/tokenizer_config.json", probe)
    code, path = page(release, tmp_path / "modules", tmp_path / "demo")
    text = path.read_text(encoding="utf-8")
    assert (code, text.count("</script><script>alert")) == (0, 0)
    assert "http" not in text.replace("http-equiv", "")
    assert all(f'data-file="{name}"' in text for name in (*MODULES, "onnx-cpu-fp32"))


@pytest.mark.skipif(
    not browser.found() or bool(roster.missing(clients.CLIENTS[-1])),
    reason="needs Chromium, and what `make demo` installs",
)
def test_opened_from_a_file_it_writes_the_golden_text_and_asks_nobody(release, tmp_path):
    code, path = page(release, NODE_MODULES, tmp_path / "demo")
    assert code == 0
    prompt = read(release / "onnx-cpu-fp32/golden.json")["prompts"][1]
    with opened(f"{path.as_uri()}#{prompt['text']}") as shown:
        assert shown.until("document.body?.dataset.written") == prompt["full_text"]
        said = shown.evaluate("document.querySelector('.golden').textContent")
        assert said == "{0} of {0} tokens as in the build".format(said.split()[0])
        assert shown.requests() == [shown.evaluate("location.href.split('#')[0]")]


def test_genai_is_left_out_where_it_would_cut_texts_otherwise():
    def why_not(vocabulary, kind="BPE", splits="Digits"):
        rules = {"pre_tokenizer": {"type": splits}, "added_tokens": [{"content": "<1>"}]}
        content = {**rules, "model": {"type": kind, "vocab": dict.fromkeys(vocabulary, 0)}}
        return genai.why_not(SimpleNamespace(tokenization=SimpleNamespace(content=content)))

    assert why_not(["1", "a", "<1>"]) == why_not(["1", "12"], splits="ByteLevel") == ""
    assert why_not(["1", "12"]) == 'onnxruntime-genai 0.18.0 does not split digits, and the vocabulary has "12"'
    assert why_not(["1"], "Unigram").endswith("and this is Unigram")
