"""No compression changes what clients read beside the artifact, shapes and a pruned vocabulary aside."""

import json

import pytest
from safetensors.numpy import load_file

from stages.compression import transform
from stages.core.errors import Unsupported
from stages.measure.settings import foreign_settings
from stages.measure.tokens import foreign_rules, renumbering
from stages.models.checkpoint import load_model, load_tokenizer, save

CHANGES = {
    "fewer_layers": {},
    "gelu_as_sigmoid": {},
    "low_rank": {"embedding_rank": 8, "linear_rank": 8},
    "none": {},
    "palette4": {},
    "pruned": {"heads_fraction": 0.5},
    "qat": {},
    "shared": {"groups": 1},
    "small_vocabulary": {"min_count": 8},
    "sparse": {},
}
"""One of conf/compression per kind, in a size that fits a model of two layers."""
COSTLY = {"palette4", "qat", "sparse"}
"""They train or search for long, and nothing in them asks which family it is."""


@pytest.mark.parametrize("name", CHANGES)
def test_settings_and_tokenizer_are_the_teachers_after_it(
    name, family, make_model, tokenizer, examples, settings, tmp_path
):
    if name in COSTLY and family != "bert":
        pytest.skip(f"'{name}' is tried with one family")
    teacher, out = tmp_path / "teacher", tmp_path / "compressed"
    for path in (teacher, out):
        path.mkdir()
    save(make_model(family), tokenizer, teacher)
    asked = settings(name, **CHANGES[name])
    try:
        outcome = transform(asked.kind).apply(load_model(teacher), load_tokenizer(teacher), examples, asked)
    except Unsupported:
        return  # refused by name: nothing ships
    save(outcome.model, outcome.tokenizer or load_tokenizer(teacher), out)
    ours, theirs = (json.loads((path / "tokenizer.json").read_text(encoding="utf-8")) for path in (out, teacher))
    config, wanted = (json.loads((path / "config.json").read_text(encoding="utf-8")) for path in (out, teacher))
    tables = {key: value.shape for key, value in load_file(out / "model.safetensors").items()}
    assert foreign_settings(config, wanted, tables, renumbering(theirs, ours)) == []
    assert foreign_rules(ours, theirs) == []
    assert (out / "tokenizer_config.json").read_bytes() == (teacher / "tokenizer_config.json").read_bytes()
