"""How much an artifact is: bytes on disk, weights, operations. No runtime takes part."""

from __future__ import annotations

from pathlib import Path

from stages.core import artifact


def measure(artifact_dir: Path, checkpoint: Path) -> dict[str, int]:
    """Return `size_bytes` of the model's files, and `parameters` and `macs` of the checkpoint it was made from.

    Args:
        artifact_dir: output of `quantize`.
        checkpoint: output of `compress`.
    """
    profile = artifact.read_json(checkpoint / "profile.json")
    return {
        "macs": profile["macs"],
        "parameters": profile["parameters"],
        "size_bytes": sum(artifact.size_bytes(path) for path in artifact_dir.glob("model.*")),
    }
