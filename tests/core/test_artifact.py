"""A stage's output is whole or absent, and says what it came from."""

import json
import math

import numpy as np
import pytest

from stages.core import artifact
from stages.core.errors import ArtifactError


def make(path, text="weights", parents=None):
    with artifact.writing(path, stage="test", parents=parents or {}) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "model.bin").write_text(text, encoding="utf-8")
    return path


def test_an_intact_directory_has_no_problems(tmp_path):
    assert artifact.problems(make(tmp_path / "a")) == []
    assert artifact.require(tmp_path / "a") == tmp_path / "a"


def test_one_changed_byte_is_named(tmp_path):
    (make(tmp_path / "a") / "sub" / "model.bin").write_text("weighty", encoding="utf-8")
    assert "sub/model.bin" in artifact.problems(tmp_path / "a")[0]
    with pytest.raises(ArtifactError, match="is not what its stage wrote: 'sub/model.bin' has sha256"):
        artifact.require(tmp_path / "a")


def test_missing_and_extra_files_are_named(tmp_path):
    make(tmp_path / "a")
    (tmp_path / "a" / "sub" / "model.bin").rename(tmp_path / "a" / "other.bin")
    assert artifact.problems(tmp_path / "a") == ["'sub/model.bin' is missing", "'other.bin' is not in the manifest"]


def test_a_directory_without_manifest_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"has no manifest\.json; next: run `dvc repro`"):
        artifact.require(tmp_path)


def test_an_error_inside_leaves_the_old_output_and_nothing_else(tmp_path):
    make(tmp_path / "a", "old")
    with pytest.raises(RuntimeError, match="killed"), artifact.writing(tmp_path / "a", stage="t", parents={}) as new:
        (new / "half").write_text("half", encoding="utf-8")
        raise RuntimeError("killed")
    assert (tmp_path / "a" / "sub" / "model.bin").read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_manifest_names_its_parents_and_is_the_same_twice(tmp_path):
    parent = make(tmp_path / "parent")
    first, second = make(tmp_path / "a", parents={"p": parent}), make(tmp_path / "b", parents={"p": parent})
    assert artifact.manifest(first)["parents"] == {"p": artifact.digest(parent)}
    assert artifact.digest(first) == artifact.digest(second)


def test_a_changed_parent_changes_the_digest(tmp_path):
    first = make(tmp_path / "a", parents={"p": make(tmp_path / "p1", "one")})
    second = make(tmp_path / "b", parents={"p": make(tmp_path / "p2", "two")})
    assert artifact.digest(first) != artifact.digest(second)


def test_nan_never_reaches_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        artifact.write_json(tmp_path / "metrics.json", {"error": math.nan})
    assert list(tmp_path.iterdir()) == []


def test_json_that_is_missing_or_broken_names_the_file(tmp_path):
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    for name in ("absent.json", "broken.json"):
        with pytest.raises(ArtifactError, match=f"cannot read '.*{name}'"):
            artifact.read_json(tmp_path / name)


def test_equal_arrays_give_equal_bytes_whatever_their_order(tmp_path):
    arrays = {"b": np.arange(6).reshape(2, 3), "a": np.float32([1.5])}
    artifact.write_arrays(tmp_path / "1.npz", arrays)
    artifact.write_arrays(tmp_path / "2.npz", dict(reversed(arrays.items())))
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    back = artifact.read_arrays(tmp_path / "1.npz")
    assert (back["b"] == arrays["b"]).all()
    assert back["a"].dtype == np.float32


def test_damaged_arrays_are_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ArtifactError, match="cannot read"):
        artifact.read_arrays(tmp_path / "x.npz")


def test_size_counts_every_file_of_a_package(tmp_path):
    (make(tmp_path / "a", "12345678") / "manifest.json").unlink()
    assert artifact.size_bytes(tmp_path / "a") == artifact.size_bytes(tmp_path / "a" / "sub" / "model.bin") == 8


def test_json_is_canonical(tmp_path):
    artifact.write_json(tmp_path / "x.json", {"b": 1, "a": 2})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == json.dumps({"a": 2, "b": 1}, indent=2) + "\n"


@pytest.mark.parametrize("linked", ["directory", "file", "inside", "dangling"])
def test_a_symbolic_link_in_an_output_is_a_problem_by_name(tmp_path, linked):
    make(tmp_path / "a")
    make(tmp_path / "other")
    target = {
        "directory": tmp_path / "other",
        "file": tmp_path / "other/sub/model.bin",
        "inside": "model.bin",
        "dangling": tmp_path / "nothing",
    }[linked]
    (tmp_path / "a/sub/linked").symlink_to(target)
    assert artifact.problems(tmp_path / "a") == ["'sub/linked' is a symbolic link"]


def test_a_recorded_file_or_a_whole_output_replaced_by_a_link_is_a_problem(tmp_path):
    make(tmp_path / "a")
    (tmp_path / "a/sub/model.bin").rename(tmp_path / "model.bin")
    (tmp_path / "a/sub/model.bin").symlink_to(tmp_path / "model.bin")
    with pytest.raises(ArtifactError, match="is not what its stage wrote: 'sub/model.bin' is a symbolic link"):
        artifact.require(tmp_path / "a")
    make(tmp_path / "b").rename(tmp_path / "moved")
    (tmp_path / "b").symlink_to(tmp_path / "moved")
    assert artifact.problems(tmp_path / "b") == ["'b' is a symbolic link"]


def test_a_hard_link_is_a_file(tmp_path):
    (make(tmp_path / "a") / "sub/model.bin").rename(tmp_path / "model.bin")
    (tmp_path / "a/sub/model.bin").hardlink_to(tmp_path / "model.bin")
    assert artifact.problems(tmp_path / "a") == []


def test_no_stage_writes_an_output_with_a_link_in_it(tmp_path):
    with (
        pytest.raises(ArtifactError, match="would hold a symbolic link: 'linked'"),
        artifact.writing(tmp_path / "a", stage="test", parents={}) as temporary,
    ):
        (temporary / "linked").symlink_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_dvcs_links_to_its_cache_are_files_and_links_that_only_look_so_are_not(tmp_path):
    make(tmp_path / "a")
    cached = tmp_path / "cache/files/md5/8b/1a9953c4611296a827abf8c47804d7"
    cached.parent.mkdir(parents=True)
    (tmp_path / "a/sub/model.bin").rename(cached)
    (tmp_path / "a/sub/model.bin").symlink_to(cached)
    assert artifact.problems(tmp_path / "a") == []
    cached.write_text("other weights", encoding="utf-8")
    assert "'sub/model.bin' has sha256" in artifact.problems(tmp_path / "a")[0]
    cached.unlink()
    cached.mkdir()
    assert "'sub/model.bin' is a symbolic link" in artifact.problems(tmp_path / "a")
