"""Cross the selected compressions, targets and precisions into variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.core.params import Section, parse
from stages.schema.naming import variant_name
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
        Variants as in params.yaml, under the names of the plain build, so that both share a cache.
    """
    variants = {}
    for compression in tree.get("compressions") or {}:
        for target in tree.get("targets") or {}:
            for name, precision in (tree.get("precisions") or {}).items():
                if facts(target).supports(parse(_Lowering, {"precision": precision}, name).precision):
                    variants[variant_name(target, compression, name)] = {
                        "compression": compression,
                        "target": target,
                        "precision": name,
                        "required": False,
                        "release_not_measured": False,
                    }
    return variants
