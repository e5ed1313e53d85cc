"""A token classifier gives a logit for each class of each token."""

from stages.tasks.base import BATCH, SEQUENCE, Tensor, encoder


def calls(task):
    """Return the one call."""
    return (encoder(Tensor(name="logits", dtype="float32", axes=[BATCH, SEQUENCE, "classes"])),)


def load(checkpoint):
    """Return the module to convert."""
    from transformers import AutoModelForTokenClassification

    from stages.core import artifact
    from stages.models.export import ExportModule

    model = AutoModelForTokenClassification.from_pretrained(checkpoint, attn_implementation="eager")
    return ExportModule(model, float(artifact.read_json(checkpoint / "profile.json")["mask_constant"])).eval()
