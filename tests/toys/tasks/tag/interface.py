"""A token classifier gives a logit for each class of each token."""

from stages.tasks.base import BATCH, SEQUENCE, Tensor, encoder


def calls(task):
    """Return the one call."""
    return (encoder(Tensor(name="logits", dtype="float32", axes=[BATCH, SEQUENCE, "classes"])),)


def load(checkpoint, task):
    """Return the module to convert."""
    from stages.models.export import load_export_module

    return load_export_module(checkpoint, task.max_length)
