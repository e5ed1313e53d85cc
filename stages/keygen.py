"""Generate the key that signs releases.

Writes: a private key outside the repository; the public half is printed, for conf/signing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stages.core import cli
from stages.lineage import signing


def run(path: Path, kind: str) -> None:
    """Write the private key and say what to do with both halves."""
    public = signing.generate(path, kind)
    print(f"private key: {path} (keep it; nobody can restore it)\npublic key:  {public}")
    print(f"sign with:   export {signing.VARIABLE}={path.resolve()}")
    print(f"             python -m stages.compose --keep signing.public_key={public}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path, help="where the private key goes, e.g. ~/.config/tinsmith/release.pem")
    parser.add_argument("--type", choices=signing.KINDS, default=signing.KINDS[0], dest="kind")
    return cli.execute(parser, argv, lambda arguments: run(arguments.path, arguments.kind))


if __name__ == "__main__":
    sys.exit(main())
