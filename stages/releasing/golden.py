"""`golden.npz`: probe inputs with the reference's and the artifact's logits, for a check on the device.

Token ids only: no text leaves the build.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core import artifact
from stages.measure import items
from stages.targets.base import read_signature
from stages.tasks import registry as tasks
from stages.tasks.base import MASK, Arrays

GOLDEN = "golden.npz"
MOST_BYTES = 4 << 20
"""Of reference logits: a text of 128 tokens over 2,048 words has a quarter of it, and a model may be smaller."""


def write(given: Path, reference: Path, parity: Path, bundle: Path) -> None:
    """Write the golden inputs and outputs, of as many texts as fit, and the test answers.

    Args:
        given: the artifact.
        reference: output of `reference`.
        parity: the variant's output of `parity`.
        bundle: directory to write into.
    """
    probe = artifact.read_arrays(reference / "probe.npz")
    outputs, records = artifact.read_arrays(parity / "outputs.npz"), items.read(parity)
    texts, rows = _kept(probe, tasks.exercise(read_signature(given).task).case(probe))
    arrays = {name: probe[name][:texts] for name in ("input_ids", "attention_mask")}
    arrays["reference_logits"] = probe["logits"][:rows]
    if "classes" in probe:
        arrays["classes"] = probe["classes"][:rows]
    if "probe" in outputs:
        arrays["artifact_logits"] = outputs["probe"][:rows]
    if "test" in records:
        # What the gate of a later build pairs its answers with.
        arrays["test_answers"] = records["test"].answer
    artifact.write_arrays(bundle / GOLDEN, arrays)


def _kept(probe: Arrays, case: NDArray[np.int32]) -> tuple[int, int]:
    """Return how many texts fit, one at least, and how many items these have."""
    ends = np.cumsum(np.bincount(case, minlength=len(probe[MASK])))
    texts = max(1, int(np.searchsorted(ends * probe["logits"][:1].nbytes, MOST_BYTES, side="right")))
    return texts, int(ends[texts - 1])
