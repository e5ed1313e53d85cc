"""A seal that anybody can make proves nothing: what was forged and sealed again is named, by more than one witness."""

import json
import shutil
import socket
from pathlib import Path

import pytest

from stages import audit
from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.injecting import forgery
from stages.lineage import findings, signing
from stages.lineage.errors import AuditFailed
from tests.toys.audited_build import KEY, ship, state, write_lock

BUNDLE, STATEMENTS = Path("build/release") / KEY, Path("build/statements")


def look(subject=BUNDLE, *, offline=False):
    return audit.audit(str(subject), None, offline=offline, again=False)


def named(root):
    return " ".join(str(finding) for finding in findings.findings(root))


def unknown(root):
    return " ".join(reason for link in root.all() for reason in link.unfollowed)


def notes(root):
    return " ".join(note for link in root.all() for note in link.notes)


@pytest.fixture
def shipped(workspace, monkeypatch):
    """The workspace with unsigned bundles, committed code and all records."""
    ship(None)
    return workspace


def forget_the_release():
    """Leave no record of what the release wrote: what was written again is the only witness."""
    (STATEMENTS / "release.json").unlink()
    write_lock()


def test_an_untouched_bundle_agrees_with_every_witness(shipped):
    root = look()
    assert named(root) == ""
    assert {link.name: link.verdict for link in root.all()}["release"] == "agrees"
    assert "files were written again, 0 came out otherwise" in notes(root)


@pytest.mark.parametrize("forged", sorted(forgery.BUNDLES.keys() - {"bundle_form"}))
@pytest.mark.parametrize("recorded", [True, False])
def test_a_bundle_forged_and_sealed_again_is_named(shipped, forged, recorded):
    if not recorded:
        forget_the_release()
    forgery.BUNDLES[forged](BUNDLE)
    forgery.reseal(BUNDLE)
    file = {
        "bundle_card": "README.md",
        "bundle_golden": "golden.npz",
        "bundle_labels": "labels.txt",
        "bundle_sample": "samples/",
        "bundle_threshold": "verdict.json",
    }[forged]
    assert f"{BUNDLE}/{file}" in named(look())


def test_another_form_of_the_artifact_is_held_to_what_the_release_wrote(shipped):
    forgery.swap_form(BUNDLE)
    forgery.reseal(BUNDLE)
    assert f"{BUNDLE}/hf/onnx/model.onnx: expected" in named(look())


@pytest.mark.parametrize(
    "name",
    ["bom.cdx.json", "hf/config.json", "hf/tokenizer_config.json", "labels.txt", "limits.json", "probe.json"],
)
def test_what_clients_read_is_written_again(shipped, name):
    forget_the_release()
    content = (BUNDLE / name).read_text(encoding="utf-8").replace("yes", "YES").replace("8", "9")
    (BUNDLE / name).write_text(content, encoding="utf-8")
    forgery.reseal(BUNDLE)
    assert f"{BUNDLE / name}: expected" in named(look())


@pytest.mark.parametrize("offline", [True, False])
def test_a_bundle_under_another_variants_name_is_named(shipped, offline):
    other = Path("build/release/onnx-cpu-int8")
    BUNDLE.rename(other)
    assert f"{other}: expected the bundle of onnx-cpu-int8, found that of {KEY}" in named(look(other, offline=offline))


def test_a_renamed_bundle_is_named_where_every_file_says_the_new_name(shipped):
    other = Path("build/release/onnx-cpu-int8")
    BUNDLE.rename(other)
    forgery.reseal(other)
    manifest = artifact.manifest(other)
    manifest["facts"]["variant"] = other.name
    artifact.write_json(other / "manifest.json", manifest)
    forgery.reseal(other)
    assert f"{other}: expected the artifact of {other.name}, found that of {KEY}" in named(look(other))
    assert f"{other}/limits.json: expected the variant {other.name}, found {KEY}" in named(look(other, offline=True))


def test_another_builds_bundle_under_the_same_name_is_named(template, chained, tmp_path, monkeypatch):
    shutil.copytree(template["workspace"], tmp_path / "shipped")
    monkeypatch.chdir(tmp_path / "shipped")
    ship(None)
    assert named(look()) == ""
    shutil.rmtree(BUNDLE)
    shutil.copytree(chained, BUNDLE)
    assert f"{BUNDLE}/manifest.json: expected" in named(look())


def test_a_forged_bundle_copied_out_is_named_by_the_workspace_that_has_its_chain(shipped, tmp_path):
    copy = tmp_path / "elsewhere" / KEY
    shutil.copytree(BUNDLE, copy)
    assert named(look(copy)) == ""
    forgery.reverse_golden(copy)
    forgery.reseal(copy)
    assert f"{copy}/golden.npz: expected" in named(look(copy))


def test_a_release_statement_that_was_edited_too_is_named_by_the_lock(shipped):
    forgery.swap_form(BUNDLE)
    forgery.reseal(BUNDLE)
    release = Path("build/release")
    recorded = artifact.manifest(release)
    for name, entry in recorded["files"].items():
        entry["sha256"] = artifact.sha256(release / name)
    artifact.write_json(release / "manifest.json", recorded)
    assert f"{release}/manifest.json: expected" in named(look())
    state(release, ["python", "-m", "stages.release"])
    assert f"{release}/manifest.json: expected" not in named(look())
    assert f"{STATEMENTS}/release.json: expected md5" in named(look())


def test_a_release_without_its_statement_is_held_to_the_lock(shipped):
    forgery.swap_form(BUNDLE)
    forgery.reseal(BUNDLE)
    (STATEMENTS / "release.json").unlink()
    root = look()
    assert "build/release/: expected md5" in named(root)
    assert "no statement says which code released it" in unknown(root)


def test_what_the_lock_does_not_know_is_said(shipped):
    lines = Path("dvc.lock").read_text(encoding="utf-8")
    forget_the_release()
    assert "no statement says which code released it" in unknown(look())
    Path("dvc.lock").write_text(lines.replace("build/data", "build/other"), encoding="utf-8")
    assert "dvc.lock does not know build/data" in unknown(look())
    Path("dvc.lock").unlink()
    assert "no dvc.lock has the gate's run" in unknown(look())


def test_a_release_of_another_workspace_copied_in_with_its_statement_is_named(shipped):
    other = json.loads((STATEMENTS / "release.json").read_text(encoding="utf-8"))
    depends = other["predicate"]["buildDefinition"]["resolvedDependencies"]
    next(entry for entry in depends if entry["name"] == "verdicts")["digest"]["sha256"] = "2" * 64
    artifact.write_json(STATEMENTS / "release.json", other)
    write_lock()
    assert f"build/verdicts.json: expected {'2' * 64}, which the release read" in named(look())


def test_a_bundle_released_before_manifests_named_their_variant_says_so(unsigned):
    recorded = artifact.manifest(unsigned)
    del recorded["facts"]["variant"]
    artifact.write_json(unsigned / "manifest.json", recorded)
    forgery.reseal(unsigned)
    root = look(unsigned, offline=True)
    assert named(root) == ""
    assert "its manifest does not name its variant" in unknown(root)
    other = unsigned.rename(unsigned.with_name("onnx-cpu-int8"))
    assert f"{other}/limits.json: expected the variant onnx-cpu-int8" in named(look(other, offline=True))


def test_verdicts_exchanged_after_the_release_are_named(shipped):
    verdicts = json.loads(Path("build/verdicts.json").read_text(encoding="utf-8"))
    verdicts["variants"]["other"] = verdicts["variants"].pop(KEY)
    artifact.write_json(Path("build/verdicts.json"), verdicts)
    assert "build/verdicts.json: expected" in named(look())


@pytest.mark.parametrize("missing", ["verdicts", "teacher"])
def test_a_bundle_without_a_statement_of_its_chain_is_named(shipped, missing):
    (BUNDLE / "lineage" / missing / "attestation.json").unlink()
    recorded = artifact.manifest(BUNDLE)
    del recorded["files"][f"lineage/{missing}/attestation.json"]
    artifact.write_json(BUNDLE / "manifest.json", recorded)
    forgery.reseal(BUNDLE)
    assert f"lineage/{missing}/attestation.json" in named(look(offline=True))


def test_code_that_was_not_committed_is_named_as_what_judged_and_released(workspace):
    """An edited judge(), undone after the build: its statement remembers."""
    dirty("stages/gating/verdict.py", "params.yaml")
    ship(None)
    root = look()
    assert "judged by uncommitted code: stages/gating/verdict.py; no revision has it" in unknown(root)
    assert "judged by uncommitted settings: params.yaml; no revision has it" in unknown(root)
    assert "judged by uncommitted code" in unknown(look(offline=True))


def dirty(*names):
    """Rewrite the gate's statement as a gate that ran with uncommitted files would have written it."""
    path = STATEMENTS / "verdicts.json"
    statement = json.loads(path.read_text(encoding="utf-8"))
    depends = {entry["name"]: entry for entry in statement["predicate"]["buildDefinition"]["resolvedDependencies"]}
    depends["revision"]["annotations"]["dirty"] = list(names)
    depends["code"]["annotations"]["files"]["stages/gating/verdict.py"] = "0" * 64
    settings = {"digest": {"sha256": "1" * 64}, "name": "params.yaml"}
    statement["predicate"]["buildDefinition"]["resolvedDependencies"].insert(0, settings)
    artifact.write_json(path, statement)
    write_lock()


def test_code_that_claims_to_be_committed_and_is_not_is_a_change(workspace):
    dirty()
    ship(None)
    assert "stages/gating/verdict.py at " in named(look())
    assert "params.yaml at " in named(look())


def test_thresholds_that_are_not_those_of_the_gates_run_are_named(shipped):
    text = Path("dvc.lock").read_text(encoding="utf-8")
    Path("dvc.lock").write_text(text.replace("at_least: 0.75", "at_least: 0.9"), encoding="utf-8")
    assert "verdict.json: expected the thresholds that dvc.lock has of the gate's run" in named(look())


def test_an_unsigned_bundle_alone_says_what_it_proves(unsigned):
    assert "UNSIGNED: proves only that it agrees with itself" in look(unsigned, offline=True).notes


def test_a_path_that_is_not_there_is_one_line_that_names_what_is(shipped, capsys):
    with pytest.raises(
        ArtifactError, match=rf"'build/release/nope' does not exist; expected in 'build/release': {KEY}"
    ):
        look("build/release/nope")
    with pytest.raises(ArtifactError, match=r"model\.tflite' does not exist"):
        look(BUNDLE / "model.tflite")
    Path("build/release/nope").mkdir()
    assert "build/release/nope: expected something that the manifest lists" in named(look("build/release/nope"))
    assert named(look("build/release")) == ""


def test_a_bundle_is_found_from_inside_it(shipped, monkeypatch):
    monkeypatch.chdir(BUNDLE)
    assert look(".", offline=True).name == f"bundle {KEY}"
    assert named(look(".", offline=True)) == ""


def test_what_was_installed_inside_a_bundle_is_one_addition_and_no_change(shipped, capsys):
    for number in range(30):
        package = BUNDLE / f"node_modules/package{number}"
        package.mkdir(parents=True)
        (package / "index.js").write_text("//", encoding="utf-8")
    (BUNDLE / "node_modules/.bin").mkdir()
    (BUNDLE / "node_modules/.bin/run").symlink_to("../package0/index.js")
    (BUNDLE / "package.json").write_text("{}", encoding="utf-8")
    assert audit.main([str(BUNDLE)]) == 1
    said = capsys.readouterr()
    assert f"bundle {KEY}" in said.out.splitlines()[0]
    assert "ADDED TO" in said.out.splitlines()[0]
    assert "node_modules/: expected nothing, found 31 file(s) that nothing lists" in said.out
    assert "0 changed, 2 added" in said.out
    assert said.err.startswith("error: what was recorded is intact, and 2 thing(s) lie beside it that nothing vouches")


def test_an_addition_does_not_hide_a_change(shipped):
    (BUNDLE / "package.json").write_text("{}", encoding="utf-8")
    forgery.edit_sample(BUNDLE)
    with pytest.raises(AuditFailed, match=r"1 thing\(s\) are not what they were recorded as; first: .*samples/"):
        audit.report(look(), as_json=False)


@pytest.mark.parametrize("linked", ["directory", "file", "inside", "dangling"])
def test_a_link_in_a_bundle_is_named_whatever_it_leads_to(unsigned, tmp_path, linked):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("text", encoding="utf-8")
    target = {
        "directory": tmp_path / "elsewhere",
        "file": tmp_path / "elsewhere/file",
        "inside": "labels.json",
        "dangling": tmp_path / "nothing",
    }[linked]
    (unsigned / "linked").symlink_to(target)
    assert f"{unsigned / 'linked'}: expected a plain file, found a link" in named(look(unsigned, offline=True))


def test_a_recorded_file_replaced_by_a_link_to_a_copy_is_named(unsigned, tmp_path):
    (unsigned / "model.onnx").rename(tmp_path / "model.onnx")
    (unsigned / "model.onnx").symlink_to(tmp_path / "model.onnx")
    assert f"{unsigned / 'model.onnx'}: expected a plain file, found a link" in named(look(unsigned, offline=True))


def test_a_linked_directory_in_an_output_is_named(shipped, tmp_path):
    place = Path("build/artifact") / KEY
    (place / "extra").symlink_to(tmp_path)
    text = named(look(place))
    assert f"{place}/extra: expected a plain file, found a link" in text
    assert "with a symbolic link in it ('extra')" in text


@pytest.mark.parametrize("name", ["manifest.json", "attestation.json", "verdict.json"])
def test_what_is_no_file_in_place_of_one_is_named_and_not_read(unsigned, name, monkeypatch):
    """A socket stands for whatever else a reader might wait for: opening one fails at once."""
    (unsigned / name).unlink()
    with monkeypatch.context() as place, socket.socket(socket.AF_UNIX) as end:
        place.chdir(unsigned)  # the path of a socket must be short
        end.bind(name)
    assert f"{unsigned / name}: expected a plain file, found something else" in named(look(unsigned, offline=True))


def test_signed_statements_of_the_gate_are_checked_too(workspace, template):
    path = BUNDLE / "lineage/verdicts/attestation.json"
    statement, _ = signing.open_sealed(path.read_bytes())
    path.write_bytes(signing.seal(statement, None))
    forgery.reseal(BUNDLE)
    text = named(audit.audit(str(BUNDLE), template["public"], offline=True, again=False))
    assert f"{path}: expected a signature by the key in conf/signing, found none" in text
