"""`golden.npz`: probe inputs with the reference's and the artifact's logits, for a check on the device.

Token ids only: no text leaves the build.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stages.core import artifact

GOLDEN = "golden.npz"


def write(reference: Path, parity: Path, bundle: Path) -> None:
    """Write the golden inputs and outputs, and the test answers.

    Args:
        reference: output of `reference`.
        parity: the variant's output of `parity`.
        bundle: directory to write into.
    """
    probe = artifact.read_arrays(reference / "probe.npz")
    outputs = artifact.read_arrays(parity / "outputs.npz")
    arrays = {name: probe[name] for name in ("input_ids", "attention_mask")}
    arrays["reference_logits"] = probe["logits"]
    if "probe" in outputs:
        arrays["artifact_logits"] = outputs["probe"]
    if "test" in outputs:
        # What the gate of a later build pairs its answers with.
        arrays["test_answers"] = outputs["test"].argmax(axis=-1).astype(np.int32)
    artifact.write_arrays(bundle / GOLDEN, arrays)
