"""Build a student of a given shape and start it from its teacher's weights."""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from stages.models.families import student_config
from stages.models.objective import layer_map
from stages.models.training import reproducible
from stages.schema.model import Shape

# Spread of projected word embeddings: wide enough that utterances differ before the first step.
EMBEDDING_STD = 0.05
LAYER = re.compile(r"(?<=\.layer\.)\d+(?=\.)")
WORD_EMBEDDINGS = "word_embeddings.weight"


def build(teacher: Any, shape: Shape, seed: int) -> Any:
    """Make a student in fp32 and eval mode.

    Every tensor whose shape agrees with the teacher's is copied, layers evenly spaced. Word embeddings that
    become narrower keep their first principal components, so that words stay near what they were near.

    Args:
        teacher: a Hugging Face sequence classifier.
        shape: of the student.
        seed: of the weights that no teacher tensor fits.

    Raises:
        ConfigError: the heads do not divide the width.
    """
    with reproducible(seed):
        config = student_config(teacher.config, shape)
        student = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
        layers = layer_map(config.num_hidden_layers, teacher.config.num_hidden_layers)
        given = teacher.state_dict()
        with torch.no_grad():
            for name, tensor in student.state_dict().items():
                source = given.get(_teacher_name(name, layers))
                if source is not None and source.shape == tensor.shape:
                    tensor.copy_(source)
                elif source is not None and name.endswith(WORD_EMBEDDINGS) and tensor.shape[1] < min(source.shape):
                    tensor.copy_(principal_components(source, tensor.shape[1]))
    return student.eval()


def principal_components(embeddings: torch.Tensor, width: int) -> torch.Tensor:
    """Project embeddings onto their directions of largest variance.

    Args:
        embeddings: [words, features].
        width: features to keep, fewer than both.

    Returns:
        [words, width], centred, scaled to a standard deviation of `EMBEDDING_STD`.
    """
    left, singular, _ = torch.linalg.svd(embeddings - embeddings.mean(dim=0), full_matrices=False)
    projected = left[:, :width] * singular[:width]
    spread = projected.std()
    return projected / spread * EMBEDDING_STD if spread > 0 else projected


def _teacher_name(name: str, layers: list[int]) -> str:
    """Name the teacher's tensor: `encoder.layer.1.…` of the student ↔ `encoder.layer.3.…` of the teacher."""
    return LAYER.sub(lambda match: str(layers[int(match.group())]), name)
