"""Say where a variant's measured numbers are not those of the device it is built for.

A threshold met here is met by this host's kernels. Which kernels compute something else is known per runtime, and
stands beside the verdict as a note: it explains a pass and changes none.
"""

from __future__ import annotations

from collections.abc import Iterable

VNNI = {"amx_int8", "avx512_vnni", "avx_vnni"}


def saturates(machine: str, isa: Iterable[str]) -> bool:
    """Whether uint8 times int8 clips on a host: x86-64 without VNNI, whose kernels add pairs in 16 bits."""
    return machine in {"x86_64", "AMD64"} and not VNNI & set(isa)


def notes(*, machine: str, isa: Iterable[str], clipped: int, sums: int) -> list[str]:
    """Return what a reader must know of the kernels behind a verdict.

    Args:
        machine: of the host, as `platform.machine` names it.
        isa: instruction sets of the host that change integer kernels.
        clipped: 16-bit sums of the artifact that AVX2 would clip, over the probe split.
        sums: all such sums; 0 where it does not multiply uint8 by int8, or nothing executed it.
    """
    if clipped:
        counted = f"{clipped:,} of {sums:,} 16-bit sums over the probe split"
        advice = "prefer unsigned 8-bit weights, which agree on both"
        if saturates(machine, isa):
            return [
                f"measured numerics are not the phone's: this CPU has no VNNI and saturates int8 weights, {counted}; "
                + advice
            ]
        return [f"numerics differ on x86-64 without VNNI: saturating accumulations on AVX2: {counted}; {advice}"]
    return []
