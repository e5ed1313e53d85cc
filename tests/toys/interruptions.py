"""A training that stops before a step, as when the machine goes off, and the steps of one that goes on."""

from contextlib import contextmanager

import pytest

from stages.models.interruption import Interruptible


@contextmanager
def interrupted(monkeypatch, step):
    """Stop the training that is run inside when so many steps are done."""

    def breaks(_, __, state, *___, **____):
        if state.global_step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as once, pytest.raises(KeyboardInterrupt):
        once.setattr(Interruptible, "on_step_begin", breaks, raising=False)
        yield


def steps_begun(monkeypatch):
    """Return a list that every step begun from here on is put into."""
    steps = []
    monkeypatch.setattr(
        Interruptible, "on_step_begin", lambda *given, **_: steps.append(given[2].global_step), raising=False
    )
    return steps
