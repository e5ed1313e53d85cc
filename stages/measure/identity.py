"""Tell whether what ships together belongs together: artifact, checkpoint, labels, tokenizer."""

from __future__ import annotations

from pathlib import Path

from stages.core import artifact, splits
from stages.measure.settings import foreign_labels, foreign_settings
from stages.measure.tokens import TOKENIZER, foreign_tokenizer, renumbering

CONFIG, SIGNATURE = "config.json", "signature.json"


def broken_chain(artifact_dir: Path, converted: Path, checkpoint: Path) -> list[str]:
    """Say where manifests name other parents than those that lie there: an artifact of an earlier checkpoint."""
    links = (
        ("artifact", artifact_dir, "converted", converted),
        ("converted model", converted, "compressed", checkpoint),
    )
    found = [
        f"the {name} was made from another '{role}' than lies in '{parent}'"
        for name, child, role, parent in links
        if artifact.manifest(child)["parents"].get(role) != artifact.digest(parent)
    ]
    if artifact.read_json(artifact_dir / SIGNATURE) != artifact.read_json(converted / SIGNATURE):
        found.append(f"its {SIGNATURE} is not the converted model's")
    return found


def foreign_interface(checkpoint: Path, teacher: Path, converted: Path, reference: Path, data: Path) -> list[str]:
    """Say where labels, settings or tokenizer, which ship beside the artifact, are not those it was measured with.

    Args:
        checkpoint: output of `compress`: `config.json` and tokenizer files.
        teacher: output of `teacher`, whose settings and tokenizer they must still be.
        converted: output of `convert`: what it pads with.
        reference: output of `reference`: the ids of its splits.
        data: output of `prepare`: `labels.json` and texts.
    """
    config, tokens = artifact.read_json(checkpoint / CONFIG), artifact.read_json(checkpoint / TOKENIZER)
    known = renumbering(artifact.read_json(teacher / TOKENIZER), tokens)
    padding = artifact.read_json(converted / SIGNATURE)["tokens"]["pad"]
    found = foreign_labels(config, splits.read_labels(data))
    found += foreign_settings(config, artifact.read_json(teacher / CONFIG), _shapes(checkpoint), known)
    if config.get("pad_token_id") != padding:
        found.append(f"config.json has pad_token_id {config.get('pad_token_id')}, {SIGNATURE} {padding}")
    return found + foreign_tokenizer(checkpoint, teacher, reference, data)


def _shapes(checkpoint: Path) -> dict[str, list[int]]:
    from safetensors import safe_open

    with safe_open(checkpoint / "model.safetensors", framework="numpy") as tensors:
        return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118
