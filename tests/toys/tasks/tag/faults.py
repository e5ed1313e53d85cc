"""What may break in a token classifier is what may in any encoder, and in the names of its classes."""

from stages.injecting.catalogue import ANYWHERE, CLASSES, LAYERS, MASKS, TABLES
from stages.injecting.checkpoint import LABELS, TOKENIZER

STORED = {**LAYERS, **MASKS, **TABLES, **CLASSES, **ANYWHERE}
INTERFACE = {**LABELS, **TOKENIZER}
