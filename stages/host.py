"""Describe this host.

Reads: the operating system.
Writes: `host.json`: CPU, cores, instruction sets and runtime versions.
Why: benchmarks depend on it, so a latency taken on another host is measured again instead of restored from a cache.
The file itself is never cached, and written anew on every repro: a workspace that moved measures again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli, process


def run(out: Path) -> None:
    """Write the fingerprint; unchanged bytes on an unchanged host."""
    artifact.write_json(out, process.host_fingerprint())


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.execute(cli.parser(__doc__, "out"), argv, lambda arguments: run(arguments.out))


if __name__ == "__main__":
    sys.exit(main())
