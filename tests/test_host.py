"""A clone holds what params.yaml chooses, and nothing that another choice left there."""

import json
from pathlib import Path

from stages import host

PLAN = {
    "compressions": {"none": {}},
    "conversions": {"none-onnx-cpu": {}},
    "references": ["none"],
    "variants": {"kept": {}},
}
KEPT = ("artifact/kept", "benchmark/kept", "compressed/none", "converted/none-onnx-cpu", "reference/none")
BESIDE = ("data", "release/gone", "second_opinion/gone", "artifact/.gone.1.tmp")
GONE = ("artifact/gone", "compressed/pruned", "converted/pruned-onnx-cpu", "parity/gone", "reference/pruned")


def test_outputs_that_are_no_longer_chosen_are_removed_and_nothing_else(tmp_path, capsys):
    for name in (*KEPT, *BESIDE, *GONE):
        (tmp_path / name).mkdir(parents=True)
        statement = tmp_path / "statements" / f"{name}.json"
        statement.parent.mkdir(parents=True, exist_ok=True)
        statement.write_text("{}", encoding="utf-8")
    for name in ("artifact/kept.log", "artifact/gone.log"):
        (tmp_path / name).write_text("noise", encoding="utf-8")
    host.run(tmp_path / "host.json", PLAN)
    assert [name for name in (*KEPT, *BESIDE) if not (tmp_path / name).is_dir()] == []
    assert [name for name in GONE if (tmp_path / name).exists()] == []
    stated = {path.relative_to(tmp_path / "statements").as_posix() for path in tmp_path.glob("statements/**/*.json")}
    assert stated == {f"{name}.json" for name in (*KEPT, *BESIDE)}
    assert [path.name for path in sorted((tmp_path / "artifact").glob("*.log"))] == ["kept.log"]
    assert capsys.readouterr().out.count("it is no longer chosen") == len(GONE)
    assert "cpu_model" in json.loads((tmp_path / "host.json").read_text(encoding="utf-8"))


def test_of_an_output_that_dvc_linked_whole_the_link_is_removed(tmp_path):
    cached = tmp_path / "cache/object"
    cached.mkdir(parents=True)
    (cached / "model.onnx").write_text("bytes", encoding="utf-8")
    (tmp_path / "build/artifact").mkdir(parents=True)
    link = tmp_path / "build/artifact/gone"
    link.symlink_to(cached)
    assert host.remove_leftovers(tmp_path / "build", PLAN) == [link.as_posix()]
    assert not link.is_symlink()
    assert Path(cached / "model.onnx").is_file()
