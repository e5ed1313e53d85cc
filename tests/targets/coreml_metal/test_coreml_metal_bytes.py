"""A package's bytes: the same from every process, canonical, and with nothing of the host in them."""

from __future__ import annotations

import json
import shutil

import pytest

from stages.core.errors import ConversionError
from stages.targets.base import one_by_one, read_signature
from stages.targets.coreml_metal import (
    canonical,
)
from stages.targets.coreml_metal.convert import check_interface
from stages.targets.coreml_metal.package import PACKAGE, PROGRAM, WEIGHTS
from stages.tasks.classify.interface import CALLS
from tests.targets.coreml_models import LENGTHS, PRECISIONS, tree


@pytest.mark.target
def test_two_processes_write_the_same_bytes(builds):
    first, second = tree(builds.first), tree(builds.second)
    assert first == second
    assert len(first) == 4 * (1 + len(PRECISIONS))


@pytest.mark.target
def test_quantize_needs_neither_torch_nor_scikit_learn(builds):
    assert builds.used == []


@pytest.mark.target
@pytest.mark.parametrize("name", ["converted", *(f"artifact/{name}" for name in PRECISIONS)])
def test_a_program_takes_int32_at_every_length_and_gives_fp32(builds, name):
    directory = builds.first / name
    check_interface(directory / PACKAGE, one_by_one(CALLS[0]), LENGTHS)
    signature = read_signature(directory)
    assert (signature.sequence_lengths, signature.dynamic, signature.tokens.pad) == (LENGTHS, False, 0)


@pytest.mark.target
def test_a_program_with_other_lengths_is_refused(builds):
    with pytest.raises(ConversionError, match=r"the program maps .* expected .*\[8, 32\]"):
        check_interface(builds.converted / PACKAGE, one_by_one(CALLS[0]), [8, 32])


@pytest.mark.target
def test_no_date_and_no_torch_version_is_left(builds):
    program = (builds.artifact / "fp16" / PACKAGE / PROGRAM).read_bytes()
    assert b"conversion_date" not in program
    assert b"TorchScript" not in program
    assert b"buildInfo" not in program


@pytest.mark.target
def test_canonical_bytes_do_not_depend_on_identifiers_or_reserved_bytes(builds, tmp_path):
    copy = tmp_path / PACKAGE
    shutil.copytree(builds.converted / PACKAGE, copy)
    manifest = json.loads((copy / "Manifest.json").read_text(encoding="utf-8"))
    root = manifest["rootModelIdentifier"]
    (copy / "Manifest.json").write_text(json.dumps(manifest).replace(root, "F0F0"), encoding="utf-8")
    with (copy / WEIGHTS).open("r+b") as stream:
        stream.seek(40)
        stream.write(b"rubbish")
    (copy / PROGRAM).chmod(0o600)
    assert tree(copy) != tree(builds.converted / PACKAGE)
    canonical.canonicalise(copy)
    assert tree(copy) == tree(builds.converted / PACKAGE)
    assert (copy / PROGRAM).stat().st_mode & 0o777 == 0o644
