"""Change one random byte at a time, in everything an audit vouches for, and print what the audit says of it.

    python -m benchmarks.tampering --bundle build/release/onnx-cpu-fp32 [--count 100]

Run it at the root of a finished clone that nobody else works in: bytes are changed in place and put back. Each of
bundle, statements, MLflow's database and the DVC cache gets a quarter of the changes: a file by chance, large or small
(by size nearly all would hit weights), and in it a byte by chance.
"""

from __future__ import annotations

import argparse
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stages import audit
from stages.core.errors import TinsmithError
from stages.lineage import cache, lock, recorded, signing
from stages.lineage.findings import Link, findings
from stages.tracking import tracked

BUILD, PARAMS = Path("build"), Path("params.yaml")
Look = Callable[[], list[Link]]


@contextmanager
def changed(path: Path, position: int, mask: int) -> Iterator[None]:
    """Change one byte of a file for the length of a block."""
    before, mode = path.read_bytes(), path.stat().st_mode
    after = bytearray(before)
    after[position] ^= mask
    path.chmod(0o644)
    try:
        path.write_bytes(after)
        yield
    finally:
        path.write_bytes(before)
        path.chmod(mode)


def said(path: Path, look: Look) -> tuple[str, str]:
    """Audit after a change.

    Returns:
        How it was named (`changed`, `noted`: the file is named and nothing that counts differs, `SILENT`), and as what.
    """
    try:
        links = look()
    except TinsmithError as error:
        return ("changed" if path.name in str(error) else "SILENT"), str(error)
    wrong = [finding for link in links for finding in findings(link)]
    for finding in wrong:
        if path.name in finding.file or finding.file.startswith("MLflow"):
            return "changed", str(finding)
    notes = [note for link in links for each in link.all() for note in each.notes if str(path) in note]
    return ("noted", notes[0]) if notes and not wrong else ("SILENT", "; ".join(map(str, wrong)))


def grounds(bundle: Path) -> dict[str, tuple[list[Path], Look]]:
    """Return what may be tampered with: its files, and the audit that should notice."""
    public = signing.public_key(PARAMS)
    database = tracked.database(BUILD)
    statements = sorted((BUILD / "statements").rglob("*.json"))
    store = lock.cache_directory()
    chain = [audit.audit(str(bundle), public, offline=False, again=False)]
    walked = {link.directory for link in chain[0].all() if link.directory}
    return {
        "bundle": (_files(bundle), lambda: [audit.audit(str(bundle), public, offline=True, again=False)]),
        "statements": (
            [path for path in statements if BUILD / path.relative_to(BUILD / "statements").with_suffix("") in walked]
            + [BUILD / "statements" / f"{name}.json" for name in ("release", "verdicts")],
            lambda: [audit.audit(str(bundle), public, offline=False, again=False)],
        ),
        "MLflow": ([database] if database else [], lambda: recorded.compare_build(BUILD)),
        "cache": (_files(store / "files") + _files(store / "runs"), lambda: [cache.audit(discard=False)]),
    }


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


def main() -> int:
    """Tamper, audit, put back, print; 1 when a change went unnamed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    # A pooled connection would answer from the pages it read before the change.
    os.environ["MLFLOW_SQLALCHEMYSTORE_POOLCLASS"] = "NullPool"
    chance, counted = random.Random(arguments.seed), Counter[tuple[str, str]]()
    places = grounds(arguments.bundle)
    print("| ground | byte | named | as |\n|---|---|---|---|")
    for ground, (paths, look) in places.items():
        for _ in range(arguments.count // len(places)):
            path = chance.choice(paths)
            position, mask = chance.randrange(path.stat().st_size), chance.randrange(1, 256)
            with changed(path, position, mask):
                how, what = said(path, look)
            counted[ground, how] += 1
            print(f"| {ground} | {path} @ {position} | {how} | {what[:160].replace('|', '/')} |", flush=True)
    print("\n| ground | " + " | ".join(kinds := ("changed", "noted", "SILENT")) + " |\n|---|--:|--:|--:|")
    for ground in places:
        print(f"| {ground} | " + " | ".join(str(counted[ground, kind]) for kind in kinds) + " |")
    return int(any(counted[ground, "SILENT"] for ground in places))


if __name__ == "__main__":
    raise SystemExit(main())
