"""What can be wrong with a chain, or with the key that signs it."""

from __future__ import annotations

from stages.core.errors import TinsmithError


class AuditFailed(TinsmithError):
    """Something is not what it was recorded as."""


class KeyRefused(TinsmithError):
    """A signing key cannot be used, or lies where it must not."""
