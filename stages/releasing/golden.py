"""`golden.npz`: probe inputs with the reference's and the artifact's logits, for a check on the device.

Token ids only: no text leaves the build.
"""

from __future__ import annotations

from pathlib import Path

from stages.core import artifact
from stages.measure import items

GOLDEN = "golden.npz"


def write(reference: Path, parity: Path, bundle: Path) -> None:
    """Write the golden inputs and outputs, and the test answers.

    Args:
        reference: output of `reference`.
        parity: the variant's output of `parity`.
        bundle: directory to write into.
    """
    probe = artifact.read_arrays(reference / "probe.npz")
    outputs, records = artifact.read_arrays(parity / "outputs.npz"), items.read(parity)
    arrays = {name: probe[name] for name in ("input_ids", "attention_mask")}
    arrays["reference_logits"] = probe["logits"]
    if "classes" in probe:
        arrays["classes"] = probe["classes"]
    if "probe" in outputs:
        arrays["artifact_logits"] = outputs["probe"]
    if "test" in records:
        # What the gate of a later build pairs its answers with.
        arrays["test_answers"] = records["test"].answer
    artifact.write_arrays(bundle / GOLDEN, arrays)
