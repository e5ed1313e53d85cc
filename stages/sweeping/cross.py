"""Cross the selected compressions, targets and precisions into variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.core.params import Section, parse
from stages.schema.variant import Precision
from stages.targets.facts import facts

Tree = Mapping[str, Any]


class _Lowering(Section):
    precision: Precision


def cross(tree: Tree) -> dict[str, Any]:
    """Return every variant that its target can be lowered to; unsupported ones are left out.

    Args:
        tree: the composed configuration, with `compressions`, `targets` and `precisions`.

    Returns:
        Variants as in params.yaml. `none` is left out of the name, so that a sweep and the plain build share a cache.
    """
    variants = {}
    for compression in tree.get("compressions") or {}:
        for target in tree.get("targets") or {}:
            for name, precision in (tree.get("precisions") or {}).items():
                if facts(target).supports(parse(_Lowering, {"precision": precision}, name).precision):
                    parts = [target, name] if compression == "none" else [target, compression, name]
                    variants["-".join(parts)] = {
                        "compression": compression,
                        "target": target,
                        "precision": name,
                        "required": False,
                        "release_not_measured": False,
                    }
    return variants
