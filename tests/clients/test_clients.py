"""Clients are asked in environments of their own; what they answer is recorded with the bundle it is about."""

import json

import pytest

from stages.asking import answers, roster
from stages.asking.interview import interview
from stages.core import artifact
from stages.schema.clients import ClientName
from tests.toys import asked_build
from tests.toys import bundle as toy
from tests.toys.asked_build import KEY, ask


@pytest.fixture
def build(tmp_path):
    return asked_build.write(tmp_path)


def spoil(build):
    """Another model in the directory than the gate judged."""
    from stages.releasing import onnx_forms

    with artifact.writing(build / "other", stage="quantize", parents={}) as out:
        (out / "model.onnx").write_bytes(toy.model(seed=1))
    (file,) = (build / "release" / KEY / "hf/onnx").glob("*.onnx")
    file.write_bytes(onnx_forms.int64_copy(build / "other").SerializeToString())


def test_a_sound_bundle_passes_and_its_digest_stands_beside_the_answers(build):
    code, known = ask(build, "onnxruntime", required=["onnxruntime"])
    assert code == 0
    assert known["bundle"] == artifact.digest(build / "release" / KEY)
    assert known["artifact"] == artifact.digest(build / "artifact" / KEY)
    entry = known["clients"]["onnxruntime"]
    assert (entry["verdict"], entry["n"], entry["tokens_equal"], entry["top1_agreement"]) == ("pass", 4, 4, 1.0)
    assert entry["edges"] == {"different": [], "n": 27, "shown": True}
    assert entry["version"].startswith("onnxruntime 1.")


def test_a_required_client_that_answers_otherwise_ends_the_command_with_one_line(build, capsys):
    spoil(build)
    code, known = ask(build, "onnxruntime", required=["onnxruntime"])
    assert (code, known["clients"]["onnxruntime"]["verdict"]) == (1, "fail")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"1 required answer(s) are missing or otherwise: {KEY} in onnxruntime: " in line
    assert ask(build, "onnxruntime")[0] == 0


def test_a_client_that_is_not_installed_is_not_measured_and_fails_where_it_is_required(build, tmp_path, monkeypatch):
    monkeypatch.setattr(roster, "INSTALLED", tmp_path / "nothing")
    code, known = ask(build, "optimum")
    assert (code, known["clients"]["optimum"]["verdict"]) == (0, "not_measured")
    assert known["clients"]["optimum"]["reason"].startswith("not installed: `make clients`")
    assert ask(build, "optimum", required=["optimum"])[0] == 1


def test_answers_of_other_clients_stay_until_the_bundle_changes(build, tmp_path, monkeypatch):
    monkeypatch.setattr(roster, "INSTALLED", tmp_path / "nothing")
    ask(build, "optimum")
    assert set(ask(build, "onnxruntime")[1]["clients"]) == {"onnxruntime", "optimum"}
    manifest = build / "release" / KEY / artifact.MANIFEST
    artifact.write_json(manifest, artifact.read_json(manifest) | {"facts": {"built": "again"}})
    assert set(ask(build, "onnxruntime")[1]["clients"]) == {"onnxruntime"}


def test_all_utterances_or_a_number_of_them_are_asked(build, capsys):
    from stages import ask as clients

    arguments = ["--build", str(build), "--params", str(build.parent / "params.yaml"), "--client", "onnxruntime"]
    assert clients.main([*arguments, "--items", "all"]) == 0
    entry = artifact.read_json(build / "clients.json")["bundles"][KEY]["clients"]["onnxruntime"]
    assert entry["n"] == len(asked_build.UTTERANCES)
    assert clients.main([*arguments, "--items", "few"]) == 1
    assert "error: --items is 'few'; expected `all` or a number of utterances" in capsys.readouterr().err


def test_a_build_without_bundles_is_refused(tmp_path, capsys):
    artifact.write_json(tmp_path / "params.yaml", asked_build.params())
    assert ask(tmp_path / "build", "onnxruntime")[0] == 1
    assert "has no bundle; next: run `dvc repro`" in capsys.readouterr().err


def test_fp32_has_to_be_repeated_exactly_and_what_runtimes_round_differently_nearly(build):
    from stages import ask as clients
    from stages.core import params
    from stages.schema.variant import Variant

    loose = {"top1_agreement": 0.5, "probability_difference": 0.5}
    precisions = {"fp32": {"kind": "float", "bits": 32}, "fp16": {"kind": "float", "bits": 16}}
    tree = asked_build.params(quantized=loose) | {"precisions": precisions}
    settings = params.parse(clients.Params, tree, "")
    asked = {name: settings.bound(Variant(**asked_build.VARIANT | {"precision": name})) for name in precisions}
    assert asked == {"fp32": settings.clients.exact, "fp16": settings.clients.quantized}


def test_a_program_that_dies_leaves_its_last_words(build):
    from stages.asking import question
    from stages.schema.variant import Variant

    asked = question.ask(KEY, Variant(**asked_build.VARIANT), build, 2)
    gone = roster.Client("gone", "hf", "python", "", "no_such_client")
    said = interview(gone, asked, build / "release" / KEY)["crashed"]
    assert said.startswith("exit 1: ")
    assert "no_such_client" in said


def test_conf_may_require_every_client_that_can_run_here_but_the_one_that_must_refuse():
    from typing import get_args

    runnable = {client.name for client in answers.everyone() if not client.absent}
    assert set(get_args(ClientName)) == runnable - {"tflite-runtime-2.14"}


def test_every_version_is_pinned_and_no_registry_is_named():
    package = json.loads((roster.PROGRAMS / "javascript/package.json").read_text(encoding="utf-8"))
    lock = (roster.PROGRAMS / "javascript/package-lock.json").read_text(encoding="utf-8")
    assert all(version[0].isdigit() for version in package["dependencies"].values())
    assert "resolved" not in lock
    assert "://" not in lock
    assert all("integrity" in entry for name, entry in json.loads(lock)["packages"].items() if name)
