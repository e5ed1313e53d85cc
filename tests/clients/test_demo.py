"""The demo page runs from a file, asks nobody, answers as the build did, and says so where it does not."""

import shutil

import pytest

from stages import demo
from stages.asking import answers, browser, roster
from stages.asking.interview import NODE_MODULES
from stages.core import artifact
from stages.reporting.demo import MODULES, find, render
from stages.tasks.classify import page
from tests.clients.chromium import opened
from tests.toys import asked_build
from tests.toys import bundle as toy
from tests.toys.asked_build import KEY

needs_chromium = pytest.mark.skipif(
    not browser.found() or any(roster.missing(one) for one in answers.everyone() if one.name == "onnxruntime-web"),
    reason="needs Chromium, and what `make demo` installs",
)


@pytest.fixture
def release(tmp_path):
    return asked_build.write(tmp_path) / "release"


@pytest.fixture
def modules(tmp_path):
    for path in MODULES.values():
        (tmp_path / "modules" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "modules" / path).write_bytes(b"nothing to run")
    return tmp_path / "modules"


def run(release, modules, out):
    return demo.main(["--release", str(release), "--modules", str(modules), "--out", str(out)])


def test_the_page_is_written_the_same_twice_and_names_its_bundles(release, modules, tmp_path, capsys):
    assert run(release, modules, tmp_path / "demo") == 0
    assert "1 variant(s), " in capsys.readouterr().out
    first = (tmp_path / "demo/index.html").read_bytes()
    assert run(release, modules, tmp_path / "demo") == 0
    assert (tmp_path / "demo/index.html").read_bytes() == first
    assert artifact.manifest(tmp_path / "demo")["parents"] == {KEY: artifact.digest(release / KEY)}


def test_a_label_cannot_end_the_block_it_stands_in(release, modules):
    hostile = ["</script><script>alert(1)</script>", "yes"]
    artifact.write_json(release / KEY / "labels.json", hostile)
    assert hostile[0] not in render(page, find(page, release), modules)


def test_what_is_missing_is_said_in_one_line(release, tmp_path, capsys):
    assert run(release, tmp_path / "nothing", tmp_path / "demo") == 1
    assert "is not installed; next: run `make demo`" in capsys.readouterr().err
    shutil.rmtree(release / KEY / "hf")
    assert not (tmp_path / "demo").exists()


def test_a_task_without_a_page_is_named(release, modules, tmp_path, capsys):
    signature = release / KEY / "signature.json"
    artifact.write_json(signature, artifact.read_json(signature) | {"task": "unseen"})
    assert run(release, modules, tmp_path / "demo") == 1
    assert "no page runs a model of task 'unseen'" in capsys.readouterr().err


def test_bundles_that_the_page_cannot_run_are_refused(release, modules, tmp_path, capsys):
    shutil.rmtree(release / KEY / "hf")
    assert run(release, modules, tmp_path / "demo") == 1
    assert "can be shown; expected one with a Hugging Face directory, of onnx-cpu" in capsys.readouterr().err


@needs_chromium
@pytest.mark.target
def test_opened_from_a_file_it_answers_as_the_artifact_and_asks_nobody(release, tmp_path):
    assert run(release, NODE_MODULES, tmp_path / "demo") == 0
    golden = artifact.read_arrays(release / KEY / "golden.npz")["artifact_logits"]
    with opened(f"{(tmp_path / 'demo/index.html').as_uri()}#{asked_build.UTTERANCES[1]}") as page:
        page.until("document.body?.dataset.answered")
        assert page.evaluate("document.querySelector('#answer').textContent") == toy.LABELS[golden[1].argmax()]
        shown = page.evaluate(
            "[...document.querySelectorAll('#tokens code')].map((token) => token.textContent).join(' ')"
        )
        assert shown == "[CLS] lamp song ##s [SEP]"
        page.evaluate("document.querySelector('#text').value = 'wake '.repeat(20)")
        page.evaluate("document.querySelector('#text').dispatchEvent(new Event('input'))")
        page.until("document.querySelector('#count').textContent === '8 tokens, cut from 22: the model takes no more:'")
        assert page.requests() == [page.evaluate("location.href.split('#')[0]")]
        assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'stopped')") == "stopped"
        assert any("Content Security Policy" in str(event) for event in page.events)


@needs_chromium
@pytest.mark.target
def test_a_model_that_answers_otherwise_than_in_the_build_is_not_shown(release, tmp_path):
    golden = artifact.read_arrays(release / KEY / "golden.npz")
    artifact.write_arrays(release / KEY / "golden.npz", {**golden, "artifact_logits": -golden["artifact_logits"]})
    assert run(release, NODE_MODULES, tmp_path / "demo") == 0
    with opened((tmp_path / "demo/index.html").as_uri()) as page:
        said = page.until("document.querySelector('#state.wrong')?.textContent")
        assert f"{KEY} answers" in said
        assert "golden inputs otherwise here" in said
        assert page.evaluate("document.querySelector('#text').disabled")
