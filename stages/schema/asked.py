"""What an artifact, or a converted model, is asked where it runs."""

from __future__ import annotations

from stages.core.params import Section
from stages.schema.measured import SplitName


class Asked(Section):
    """What parity wants answered."""

    task: str
    splits: list[SplitName]
    keep: list[SplitName]
    """Of these, the ones whose logits are given back, in the reference's columns."""
    vocabulary: int
    """Ids below this one may stand under the mask."""
    reach: int
    """As in `invariance.Padding`."""
    together: bool
    """Whether to ask for many texts at once, where it takes several."""
    greedy: bool
    """Whether to have it write texts on, as the checkpoint did."""
    saturation: bool
    """Whether to count sums that some CPUs clip."""
