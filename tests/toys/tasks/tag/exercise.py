"""Every token but padding is an item."""

from functools import partial

import numpy as np

from stages.measure import invariance
from stages.tasks.base import FORWARD, MASK, Timed, utterances


def case(split):
    """Return the text of each token."""
    return np.nonzero(split[MASK])[0].astype(np.int32)


def ask(session, inputs):
    """Return the logits of all tokens but padding, text by text."""
    return session.run(FORWARD, inputs)["logits"][inputs[MASK] == 1]


def answer(session, split):
    """Ask for each text alone."""
    return (ask(session, inputs) for inputs in utterances(split))


def forms(session, probe, padding):
    """Ask for texts padded, above other padding and in a batch."""
    return invariance.measure(partial(ask, session), probe, padding, batches=session.batches)


def greedy(session, wanted, spread):
    """Write no text."""
    return {}


def timed(split):
    """Return the call for every text."""
    return {"true_length": [Timed(FORWARD, inputs) for inputs in utterances(split)]}
