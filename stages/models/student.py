"""Build a student of a given shape and start it from its teacher's weights."""

from __future__ import annotations

import re
from typing import Any

import torch

from stages.models.families import family_of
from stages.models.families.base import Family
from stages.models.objective import layer_map
from stages.models.shapes import student_config
from stages.models.training import reproducible
from stages.schema.model import Shape

# Spread of projected word embeddings: wide enough that utterances differ before the first step.
EMBEDDING_STD = 0.05
EMBEDDINGS = re.compile(r"(_embeddings|embed_tokens|embed_positions)\.weight$")


def build(teacher: Any, shape: Shape, seed: int) -> Any:
    """Make a student in fp32 and eval mode.

    Every tensor whose shape agrees with the teacher's is copied, layers evenly spaced. Embeddings that become
    narrower are projected onto the words' first principal components, so that words stay near what they were near.

    Args:
        teacher: a Hugging Face model; the student is of its class.
        shape: of the student.
        seed: of the weights that no teacher tensor fits.

    Raises:
        ConfigError: the heads do not divide the width.
    """
    with reproducible(seed):
        config = student_config(teacher.config, shape)
        student = type(teacher)._from_config(config, attn_implementation="eager")
        layers = layer_map(config.num_hidden_layers, teacher.config.num_hidden_layers)
        with torch.no_grad():
            _copy(teacher.state_dict(), student.state_dict(), layers, family_of(config))
            _project(teacher.get_input_embeddings().weight, teacher.state_dict(), student.state_dict())
    return student.eval()


def principal_directions(embeddings: torch.Tensor, width: int) -> torch.Tensor:
    """Find the directions in which embeddings vary most.

    Args:
        embeddings: [words, features].
        width: directions to keep, fewer than words and features.

    Returns:
        [features, width]; the centred embeddings times it have a standard deviation of `EMBEDDING_STD`.
    """
    centred = embeddings - embeddings.mean(dim=0)
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:width].T
    spread = (centred @ directions).std()
    return directions * (EMBEDDING_STD / spread) if spread > 0 else directions


def _copy(given: dict[str, torch.Tensor], taken: dict[str, torch.Tensor], layers: list[int], family: Family) -> None:
    for name, tensor in taken.items():
        source = given.get(_teacher_name(name, layers, family))
        if source is not None and source.shape == tensor.shape:
            tensor.copy_(source)


def _project(words: torch.Tensor, given: dict[str, torch.Tensor], taken: dict[str, torch.Tensor]) -> None:
    """Narrow words, positions and token types together: they are summed, so they share one space."""
    for name, tensor in taken.items():
        source = given.get(name)
        if source is None or not EMBEDDINGS.search(name) or source.shape[1] != words.shape[1]:
            continue
        if len(source) == len(tensor) and tensor.shape[1] < min(words.shape):
            tensor.copy_((source - source.mean(dim=0)) @ principal_directions(words, tensor.shape[1]))


def _teacher_name(name: str, layers: list[int], family: Family) -> str:
    """Name the teacher's tensor: `encoder.layer.1.…` of the student ↔ `encoder.layer.3.…` of the teacher."""
    if family.shares_layers:
        return name
    number = rf"(?<=\.{re.escape(family.layer_list)}\.)\d+(?=\.)"
    return re.sub(number, lambda match: str(layers[int(match.group())]), name)
