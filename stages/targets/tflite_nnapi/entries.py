"""Which signatures a file has for the calls of its artifact, and how these call what goes in and comes out.

A decoder's are those that LiteRT-LM calls: `prefill_N` reads N tokens and answers nothing, `decode` reads one and says
what may follow it; both take and give the keys and values of all tokens that there is room for.
"""

from __future__ import annotations

from stages.targets.base import Signature
from stages.tasks.base import DECODE, FORWARD

TOKENS, PLACES = "tokens", "input_pos"
"""int32 [1, n] ids and int32 [n] places in the text that a decoder's signatures take."""
KEYS, VALUES = "kv_cache_k_{}", "kv_cache_v_{}"
"""Keys and values of a layer, fp32 [1, groups, room, head_size]."""

Names = tuple[list[str], list[str]]


def signature_name(length: int, call: str = FORWARD) -> str:
    """Name the signature of a call that takes `length` tokens; an encoder's only call needs no name of its own."""
    return f"{'length' if call == FORWARD else call}_{length}"


def prefill_name(length: int) -> str:
    """Name the signature that reads `length` tokens of a decoder's text."""
    return f"prefill_{length}"


def entries(signature: Signature) -> dict[str, Names]:
    """Return signature of the file → names of its inputs and of its outputs, each in order."""
    found: dict[str, Names] = {}
    for call in signature.calls:
        states = [tensor.name for tensor in call.states]
        given, answered = call.names
        if states:
            found[DECODE] = [TOKENS, PLACES, *states], [*answered, *states]
            found |= {prefill_name(n): ([TOKENS, PLACES, *states], states) for n in signature.sequence_lengths}
        else:
            found |= {signature_name(n, call.name): (given, answered) for n in signature.sequence_lengths}
    return found
