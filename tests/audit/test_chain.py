"""Whatever changes after a stage wrote it, an audit names; what it cannot see from where it stands, it says."""

import json
import os
import random
import shutil
import socket
import subprocess

import pytest

from stages import audit
from stages.core import artifact
from stages.core.errors import ArtifactError
from stages.lineage import findings
from stages.lineage.errors import AuditFailed
from tests.toys.audited_build import KEY, flip


def look(subject, public=None, *, offline=True, again=False):
    return audit.audit(str(subject), public, offline=offline, again=again)


def wrong(root):
    return findings.findings(root)


def named(root):
    return " ".join(str(finding) for finding in wrong(root))


def links(root):
    return {link.name: link for link in root.all() if not link.again}


def test_a_signed_bundle_alone_is_intact_and_says_what_it_could_not_follow(bundle, template):
    root = look(bundle, template["public"])
    assert wrong(root) == []
    assert root.verdict == "intact"
    assert any(note.startswith("signed by key") for note in root.notes)
    found = links(root)
    assert {"artifact", "converted", "compressed", "student", "teacher", "data", "parity", "benchmark"} <= set(found)
    assert found["teacher"].verdict == "recorded"
    assert found["source"].unfollowed == ["neither it nor its manifest is here"]
    assert any("verdicts.json is not here" in reason for reason in found["verdict"].unfollowed)


def test_the_chain_runs_from_the_artifact_to_the_data(bundle):
    link, names = look(bundle).below[1], []
    while link.below:
        names.append(link.name)
        link = link.below[0]
    assert names == ["artifact", "converted", "compressed", "student", "teacher", "data"]


def test_the_chain_of_a_chained_compression_runs_through_every_step(chained):
    link, names = look(chained).below[1], []
    while link.below:
        names.append(link.name)
        link = link.below[0]
    assert names == ["artifact", "converted", "compressed", "compressed-halved", "student", "teacher", "data"]
    assert wrong(look(chained)) == []


def test_a_changed_step_of_a_chained_compression_is_named(chained):
    manifest = chained / "lineage/compressed-halved/manifest.json"
    artifact.write_json(manifest, {**json.loads(manifest.read_text(encoding="utf-8")), "stage": "other"})
    assert f"{manifest}: expected" in named(look(chained))


def test_in_its_workspace_every_parent_is_rehashed(workspace, template):
    root = look(f"build/release/{KEY}", template["public"], offline=False)
    assert wrong(root) == []
    records = {"verdict", "release", "what follows from the chain"}
    assert {link.verdict for name, link in links(root).items() if name not in records} == {"intact"}
    assert {links(root)[name].verdict for name in records} == {"agrees"}
    assert links(root)["source"].notes == ["raw.jsonl"]
    assert any("code: " in note for note in links(root)["teacher"].notes)


def test_a_file_in_a_bundle_or_output_is_audited_with_all_of_it(workspace):
    assert look(f"build/release/{KEY}/model.onnx").name == f"bundle {KEY}"
    assert look(f"build/artifact/{KEY}/model.onnx", offline=False).name == f"artifact {KEY}"
    with pytest.raises(ArtifactError, match=r"'raw\.jsonl' is no bundle"):
        look("raw.jsonl")


def test_any_flipped_bit_of_any_file_of_a_bundle_names_that_file(bundle, template):
    chance, files = random.Random(0), [path for path in sorted(bundle.rglob("*")) if path.is_file()]
    assert len(files) > 25
    for path in files:
        before = path.read_bytes()
        for position in {0, len(before) - 1, chance.randrange(len(before))}:
            flip(path, position, chance.randrange(8))
            said = [finding.file for finding in wrong(look(bundle, template["public"]))]
            assert str(path) in said, f"{path} at {position}: {said}"
            path.write_bytes(before)
    assert wrong(look(bundle, template["public"])) == []


def test_any_flipped_bit_of_an_unsigned_bundle_is_named_too(unsigned):
    chance = random.Random(1)
    for path in [unsigned / name for name in ("attestation.json", "manifest.json", "SHA256SUMS", "verdict.json")]:
        before = path.read_bytes()
        for _ in range(6):
            flip(path, chance.randrange(len(before)), chance.randrange(8))
            assert str(path) in [finding.file for finding in wrong(look(unsigned))]
            path.write_bytes(before)


def test_expected_and_found_digest_are_given(bundle):
    expected = artifact.sha256(bundle / "model.onnx")
    flip(bundle / "model.onnx")
    (finding,) = wrong(look(bundle))
    assert vars(finding) == {
        "file": str(bundle / "model.onnx"),
        "expected": expected,
        "found": artifact.sha256(bundle / "model.onnx"),
    }


def test_a_missing_and_an_added_file_are_named(bundle):
    (bundle / "labels.json").unlink()
    (bundle / "extra.py").write_text("import os", encoding="utf-8")
    text = named(look(bundle))
    assert "labels.json" in text
    assert "extra.py: expected nothing" in text


def test_a_link_in_a_bundle_is_not_followed(bundle):
    (bundle / "passwords").symlink_to("/etc/passwd")
    assert "passwords: expected a plain file, found a link" in named(look(bundle))


def test_a_hostile_bundle_neither_steers_the_terminal_nor_ends_in_a_traceback(bundle, capsys, monkeypatch):
    (bundle / "\x1b[2Jgone").write_text("clears the screen", encoding="utf-8")
    (bundle / "lineage/teacher/manifest.json").write_text("[" * 2_000, encoding="utf-8")
    (bundle / "manifest.json").write_text("[" * 2_000, encoding="utf-8")
    with monkeypatch.context() as place, socket.socket(socket.AF_UNIX) as end:
        place.chdir(bundle)  # the path of a socket must be short
        end.bind("neither")  # a file, a link or a directory
    assert audit.main(["--offline", str(bundle)]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out
    assert "?[2Jgone" in said.out
    assert "neither: expected a plain file, found something else" in said.out
    (bundle / "manifest.json").unlink()
    with pytest.raises(AuditFailed) as raised:
        root = look(bundle)
        root.findings = [finding for finding in root.findings if "gone" in finding.file]
        audit.report(root, as_json=True)
    assert "\x1b" not in str(raised.value)


def rewrite(bundle):
    """What somebody without the key can do: change the model, and every digest that names it."""
    from stages.lineage import bundle as closing

    (bundle / "model.onnx").write_bytes(b"another model")
    recorded = artifact.manifest(bundle)
    recorded["files"]["model.onnx"]["sha256"] = artifact.sha256(bundle / "model.onnx")
    artifact.write_json(bundle / artifact.MANIFEST, recorded)
    (bundle / closing.SUMS).unlink()
    closing.close(bundle, None, None)


def test_a_bundle_rewritten_without_the_key_is_unsigned_and_its_artifact_is_not_the_chains(bundle, template):
    rewrite(bundle)
    text = named(look(bundle, template["public"]))
    assert "expected a signature by the key in conf/signing, found none" in text
    assert f"{bundle / 'model.onnx'}: expected" in text


def test_a_bundle_signed_by_another_key_is_named(bundle):
    other = "302a300506032b6570032100" + "11" * 32
    assert "not by key" in named(look(bundle, other))


def test_an_unsigned_bundle_says_so_in_one_word(unsigned):
    root = look(unsigned)
    assert wrong(root) == []
    assert any(note.startswith("UNSIGNED") for note in root.notes)


def test_a_chain_link_taken_from_another_build_is_named(bundle):
    manifest = bundle / "lineage/teacher/manifest.json"
    recorded = json.loads(manifest.read_text(encoding="utf-8"))
    expected = artifact.sha256(manifest)
    artifact.write_json(manifest, {**recorded, "stage": "other"})
    assert f"{manifest}: expected {expected}, found {artifact.sha256(manifest)}" in named(look(bundle))


@pytest.mark.parametrize("place", ["teacher/model.safetensors", "data/test.jsonl", f"parity/{KEY}/outputs.npz"])
def test_a_changed_output_of_the_workspace_is_named(workspace, place):
    flip(workspace / "build" / place)
    text = named(look(f"build/release/{KEY}", offline=False))
    assert f"build/{place}: expected" in text
    assert "(dvc.lock)" in text


def test_any_flipped_bit_of_a_manifest_in_the_workspace_is_named(workspace):
    chance, path = random.Random(2), workspace / f"build/artifact/{KEY}/manifest.json"
    before = path.read_bytes()
    for position in chance.sample(range(len(before)), 12):
        flip(path, position, chance.randrange(8))
        assert f"build/artifact/{KEY}/" in named(look(f"build/artifact/{KEY}", offline=False))
        path.write_bytes(before)


def test_a_changed_statement_of_the_workspace_is_named_by_the_lock(workspace):
    path = workspace / "build/statements/teacher.json"
    path.write_text(path.read_text(encoding="utf-8").replace("Linux", "Lynux"), encoding="utf-8")
    text = named(look(f"build/artifact/{KEY}", offline=False))
    assert "build/statements/teacher.json: expected md5" in text


def test_a_statement_about_other_bytes_is_named(workspace):
    shutil.copy(workspace / "build/statements/student.json", workspace / "build/statements/teacher.json")
    assert "expected a statement about" in named(look(f"build/artifact/{KEY}", offline=False))


def test_a_lost_statement_is_a_link_that_cannot_be_followed(workspace):
    (workspace / "build/statements/teacher.json").unlink()
    root = look("build/teacher", offline=False)
    assert wrong(root) == []
    assert root.unfollowed == ["no statement says which code made it, where and when"]


def test_the_verdict_is_tied_to_its_measurements_and_to_the_gates(workspace):
    path = workspace / "build/verdicts.json"
    judged = json.loads(path.read_text(encoding="utf-8"))
    judged["variants"][KEY]["metrics"]["accuracy"] = 0.1
    path.write_text(json.dumps(judged), encoding="utf-8")
    assert "verdict.json: expected the entry in build/verdicts.json" in named(
        look(f"build/release/{KEY}", offline=False)
    )


def test_an_artifact_is_made_again_byte_for_byte(workspace, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(workspace), str(audit.__file__).rpartition("/stages/")[0]]))
    root = look(f"build/artifact/{KEY}", offline=False, again=True)
    assert wrong(root) == []
    rebuilt = links(root)[f"rebuilt artifact/{KEY}"]
    assert rebuilt.notes == ["3 files, byte for byte the same"]
    (workspace / "copying.py").write_text(
        (workspace / "copying.py").read_text(encoding="utf-8").replace("lowered", "LOWERED"), encoding="utf-8"
    )
    text = named(look(f"build/artifact/{KEY}", offline=False, again=True))
    assert f"build/artifact/{KEY}/model.onnx: expected" in text
    assert "when made again" in text


def test_the_command_in_a_changed_statement_is_not_run(workspace, monkeypatch):
    path = workspace / f"build/statements/artifact/{KEY}.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"copying"', '"intruder"'), encoding="utf-8")
    (workspace / "intruder.py").write_text("open('was-run', 'w')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(workspace), str(audit.__file__).rpartition("/stages/")[0]]))
    root = look(f"build/artifact/{KEY}", offline=False, again=True)
    assert f"statements/artifact/{KEY}.json: expected md5" in named(root)
    assert not (workspace / "was-run").exists()
    assert f"rebuilt artifact/{KEY}" not in links(root)


def test_what_is_not_here_cannot_be_made_again(bundle):
    with pytest.raises(ArtifactError, match="nothing in the chain .* can be made again"):
        look(bundle, again=True)


def test_the_command_prints_a_tree_or_json_and_fails_on_a_change(bundle, capsys):
    assert audit.main(["--offline", str(bundle)]) == 0
    tree = capsys.readouterr().out
    assert tree.startswith(f"bundle {KEY}")
    assert "└─ data" in tree
    assert "0 changed" in tree
    flip(bundle / "golden.npz")
    assert audit.main(["--offline", "--json", str(bundle)]) == 1
    said = capsys.readouterr()
    assert not json.loads(said.out)["intact"]
    assert json.loads(said.out)["findings"][0]["file"].endswith("golden.npz")
    assert said.err.startswith("error: 1 thing(s) are not what they were recorded as; first:")


def test_sha256sum_alone_can_check_a_bundle(bundle):
    assert subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=bundle).returncode == 0
    flip(bundle / "model.onnx")
    assert subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=bundle, capture_output=True).returncode == 1


def test_an_auditor_raises_with_the_first_thing_changed(bundle):
    flip(bundle / "labels.json")
    with pytest.raises(AuditFailed, match=r"1 thing\(s\).*labels\.json"):
        audit.report(look(bundle), as_json=False)
