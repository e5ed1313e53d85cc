"""golden.npz holds whole texts, and no more of them than a bundle should carry."""

import numpy as np
import pytest

from stages.core import artifact
from stages.measure import items
from stages.releasing import golden

SIZES = (3, 5, 2, 4)  # tokens; one less is followed by another


@pytest.fixture
def places(tmp_path):
    """Artifact, reference and parity of a language model over ten words."""
    given, reference, parity = (tmp_path / name for name in ("artifact", "reference", "parity"))
    for place in (given, reference, parity):
        place.mkdir()
    signature = {"task": "generate", "calls": [], "sequence_lengths": [8], "dynamic": True, "tokens": {"pad": None}}
    artifact.write_json(given / "signature.json", signature)
    mask = (np.arange(8) < np.array(SIZES)[:, None]).astype(np.int32)
    logits = np.random.default_rng(0).normal(size=(sum(SIZES) - len(SIZES), 10)).astype(np.float32)
    probe = {"input_ids": mask, "attention_mask": mask, "logits": logits}
    artifact.write_arrays(reference / "probe.npz", probe)
    artifact.write_arrays(parity / "outputs.npz", {"probe": logits + 1})
    artifact.write_arrays(parity / items.ITEMS, items.arrays({}))
    return given, reference, parity


@pytest.mark.parametrize(
    ("most", "texts", "rows"), [(golden.MOST_BYTES, 4, 10), (7 * 40, 3, 7), (7 * 40 - 1, 2, 6), (1, 1, 2)]
)
def test_whole_texts_that_fit_are_kept_and_one_at_least(places, tmp_path, monkeypatch, most, texts, rows):
    monkeypatch.setattr(golden, "MOST_BYTES", most)
    golden.write(*places, tmp_path)
    found = np.load(tmp_path / golden.GOLDEN)
    assert found["input_ids"].shape == found["attention_mask"].shape == (texts, 8)
    assert found["reference_logits"].shape == found["artifact_logits"].shape == (rows, 10)
    np.testing.assert_array_equal(found["artifact_logits"], found["reference_logits"] + 1)
