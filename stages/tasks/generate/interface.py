"""How a language model is called: further tokens of a text in, a logit for each token that may come next out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stages.core import artifact
from stages.core.errors import InputError
from stages.models.families import family_of
from stages.tasks.base import DECODE, IDS, PAST, SEQUENCE, Call, Tensor

if TYPE_CHECKING:
    from stages.models.families.decoder import Decoder
    from stages.schema.task import Task

CALLS = (
    Call(
        name=DECODE,
        inputs=[Tensor(name=IDS, dtype="int32", axes=[1, SEQUENCE])],
        outputs=[Tensor(name="logits", dtype="float32", axes=[1, 1, "vocabulary"])],
        # How many there are, and of what size, the model says: a converter puts its own in the place of this one.
        states=[Tensor(name="past_key_values", dtype="float32", axes=[1, "groups", PAST, "head_size"])],
    ),
)


def calls(task: Task) -> tuple[Call, ...]:  # noqa: ARG001 (a text may have any length)
    """Return the one call; what it leaves for the next one, each target's artifact says."""
    return CALLS


def load(checkpoint: Path, task: Task) -> Decoder:  # noqa: ARG001 (it reads a text of any length)
    """Read what to write in each platform's format.

    Raises:
        InputError: the checkpoint's family is one of encoders.
    """
    from safetensors.numpy import load_file

    config = artifact.read_json(checkpoint / "config.json")
    family = family_of(config)
    if family.decoder is None:
        raise InputError(f"'{checkpoint}' is of family '{family.name}', an encoder", expected="a causal language model")
    return family.decoder(config, load_file(checkpoint / "model.safetensors"))
