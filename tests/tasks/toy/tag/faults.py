"""What may break in a token classifier is what may in any encoder, and in the names of its classes."""

from stages.faults.catalogue import ANYWHERE, CLASSES, LAYERS, MASKS, TABLES
from stages.faults.checkpoint import LABELS, TOKENIZER

STORED = {**LAYERS, **MASKS, **TABLES, **CLASSES, **ANYWHERE}
INTERFACE = {**LABELS, **TOKENIZER}
