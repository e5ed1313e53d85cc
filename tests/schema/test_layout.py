"""Tests of `stages/schema/layout.py`: dvc.yaml and the code agree where outputs lie, and nothing else says it."""

import re
from pathlib import Path

import pytest
import yaml

from stages.core import artifact
from stages.core.closure import ROOT
from stages.schema import layout


def test_every_place_is_an_output_of_dvc_yaml():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"].values()
    outs = [out for stage in stages for out in stage.get("do", stage).get("outs", ()) if isinstance(out, str)]
    declared = {re.sub(r"\$\{.*?\}", "*", out) for out in outs}
    places = {re.sub(r"\{.*\}", "*", f"build/{place}") for place in layout.PLACES.values()}
    files = {f"build/{name}" for name in (layout.RELEASE, layout.REPORT, layout.VERDICTS, layout.EXPLAINED)}
    assert len(places) == len(layout.PLACES)
    assert places | files <= declared


def test_what_lies_behind_a_variant_is_where_the_plan_puts_it():
    plan = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["plan"]
    for key, variant in plan["variants"].items():
        found = layout.behind(Path("build"), key, variant["compression"], variant["target"])
        assert found["converted"] == Path("build/converted") / variant["conversion"]
        assert found["artifact"] == Path("build/artifact") / key
        assert found["reference"].name in plan["references"]


def test_no_other_module_puts_a_place_together():
    roles = "|".join({place.partition("/")[0] for place in layout.PLACES.values()})
    files = "|".join((layout.VERDICTS, layout.EXPLAINED, layout.CLIENTS, layout.HOST))
    by_hand = re.compile(rf'build / (f?"({roles}|{files})[/"]|[a-z]+ / key)')
    assert by_hand.search('build / "artifact" / key')
    assert by_hand.search("build / stage / key")
    for path in sorted((ROOT / "stages").rglob("*.py")):
        assert not by_hand.search(path.read_text(encoding="utf-8")), path


def compressed(build, name, after):
    out = layout.place(build, "compressed", compression=name)
    with artifact.writing(out, stage="compress", parents={}):
        pass
    manifest = artifact.manifest(out) | {"params": {"compression": {"after": after}}}
    artifact.write_json(out / artifact.MANIFEST, manifest)


def test_a_chain_of_compressions_is_followed_by_what_the_manifests_say(tmp_path):
    for name, after in (("quantised", "shared"), ("shared", "pruned"), ("pruned", None)):
        compressed(tmp_path, name, after)
    found = layout.earlier(tmp_path, "quantised")
    assert list(found) == ["compressed-shared", "compressed-pruned"]
    assert found["compressed-pruned"] == tmp_path / "compressed/pruned"


def test_what_the_student_learnt_from_is_behind_it_where_its_manifest_says_so(tmp_path):
    for number in ("0", "1"):
        with artifact.writing(tmp_path / "text" / number, stage="unlabelled", parents={}):
            pass
    texts = {f"text-{number}": tmp_path / "text" / number for number in ("0", "1")}
    with artifact.writing(tmp_path / "transfer", stage="transfer", parents=texts):
        pass
    for parents in ({}, {"transfer": tmp_path / "transfer"}):
        with artifact.writing(tmp_path / "student", stage="distill", parents=parents):
            pass
        assert layout.learnt_from(tmp_path) == (parents | texts if parents else {})


def test_a_circle_of_compressions_ends(tmp_path):
    compressed(tmp_path, "a", "b")
    compressed(tmp_path, "b", "a")
    assert list(layout.earlier(tmp_path, "a")) == ["compressed-b", "compressed-a"]


def test_a_role_that_no_stage_writes_is_refused(tmp_path):
    with pytest.raises(KeyError, match="artefact"):
        layout.place(tmp_path, "artefact", variant="x")
