"""Schema, modules and conf/ name the same compressions."""

import typing
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from stages.compression import transform
from stages.schema.compression import Compression
from tests.composed import composed

ROOT = Path(__file__).resolve().parents[2]
RECOVERY = yaml.safe_load((ROOT / "conf/compression/recovery/default.yaml").read_text(encoding="utf-8"))


def kinds():
    union = typing.get_args(Compression)[0]
    return {typing.get_args(section.model_fields["kind"].annotation)[0] for section in typing.get_args(union)}


def parse(value):
    return TypeAdapter(Compression).validate_python(value)


def test_every_kind_has_a_module_and_every_module_a_kind():
    modules = {path.stem for path in (ROOT / "stages/compression").glob("*.py")} - {"__init__"}
    assert modules == kinds()


def test_every_module_can_be_applied_and_says_which_splits_it_reads():
    for kind in kinds():
        module = transform(kind)
        assert callable(module.apply)
        assert set(module.SPLITS) <= {"train", "validation"}


def test_every_conf_file_is_valid():
    paths = sorted((ROOT / "conf/compression").glob("*.yaml"))
    assert paths
    for path in paths:
        assert path.read_text(encoding="utf-8").startswith(f"# @package compressions.{path.stem}\n")
        parse(composed()["compressions"][path.stem])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "magic"}, "none.*prune_structured"),
        ({"heads_fraction": 1.0}, "less than 1"),
        ({"ffn_fraction": -0.1}, "greater than or equal to 0"),
        ({"heads_fraction": 0.0, "ffn_fraction": 0.0}, "use kind 'none'"),
        ({"parameters": 900}, "must be null beside it"),
        ({"parameters": 900, "ffn_fraction": None}, "must be null beside it"),
        ({"parameters": 0, "heads_fraction": None, "ffn_fraction": None}, "greater than or equal to 1"),
        ({"heads_fraction": None}, "are needed where parameters is null"),
        ({"heads_fraction": None, "ffn_fraction": None}, "are needed where parameters is null"),
        ({"importance_utterances": 0}, "greater than or equal to 1"),
        ({"recovery": RECOVERY | {"kl_weight": 0.0, "ce_weight": 0.0}}, "nothing to learn from"),
        ({"surprise": 1}, "not permitted"),
    ],
)
def test_an_impossible_compression_is_refused(change, message):
    with pytest.raises(ValidationError, match=message):
        parse(composed()["compressions"]["pruned"] | change)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("none", {"after": "pruned"}, "not permitted"),
        ("sparse", {"pattern": {"kind": "unstructured", "sparsity": 1.0}}, "less than 1"),
        ("sparse", {"pattern": {"kind": "n_of_m", "keep": 4, "of": 4}}, "removes nothing"),
        ("low_rank", {"embedding_rank": None}, "are both null"),
        ("low_rank", {"linear_rank": 0}, "greater than or equal to 1"),
        ("fewer_layers", {"by": "chance"}, "'importance' or 'evenly'"),
        ("small_vocabulary", {"min_count": 0}, "greater than or equal to 1"),
        ("palette4", {"bits": 9}, "less than or equal to 8"),
        ("shared", {"recovery": None}, "valid dictionary"),
        ("shared", {"groups": 0}, "greater than or equal to 1"),
    ],
)
def test_an_impossible_setting_of_another_kind_is_refused(name, change, message):
    with pytest.raises(ValidationError, match=message):
        parse(composed()["compressions"][name] | change)
