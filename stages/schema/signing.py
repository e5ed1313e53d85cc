"""conf/signing: which key signs what is released."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stages.core.params import Section


class Signing(Section):
    """The public half of the signing key: SubjectPublicKeyInfo in hex, None to ship unsigned."""

    public_key: Annotated[str, Field(pattern=r"^(?:[0-9a-f]{2})+$")] | None
