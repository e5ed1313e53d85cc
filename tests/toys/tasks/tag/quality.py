"""Right tags of words, as a classifier's right labels of texts."""

from stages.tasks.classify.quality import measure

__all__ = ["measure"]
