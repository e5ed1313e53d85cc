"""Compile a bundle ahead of time for a phone's NPU, with the vendor's own SDK that you installed.

Reads: a bundle, or an artifact.
Writes: a directory with the compiled file, and `manifest.json` that names what it was compiled from.
Why: an NPU compiler on the phone costs minutes of a user's time. Off unless it is asked for: SDKs are proprietary, no
    build depends on one, and nothing here was run on a chip.

    python -m stages.ahead --bundle build/release/VARIANT --vendor qualcomm --chip SM8750 --licence-accepted --out DIR
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from stages.accelerators import vendor as sdk
from stages.core import artifact, cli
from stages.core.process import quiet


def run(bundle: Path, vendor: str, chip: str, accepted: bool, out: Path) -> None:
    """Compile, and leave nothing where that fails.

    Raises:
        ArtifactError: there is no model.
        ConfigError: the licence was not accepted, or the SDK is not there or not whole.
        ConversionError: the compiler failed, in whatever silence.
    """
    model = sdk.model_of(bundle)
    sdk.accept(vendor, accepted)
    with artifact.writing(out, stage="ahead", parents={"bundle": bundle}) as temporary:
        with quiet(out.with_name(f"{out.name}.log")):
            if model.suffix == ".onnx":
                found = sdk.compile_qnn(model, chip, temporary / model.name)
            else:
                found = sdk.compile_litert(model, vendor, chip, temporary)
        artifact.write_json(temporary / "compiled.json", {**found, "chip": chip, "ran": "not_measured: no such chip"})
    print(f"{out}: {found['bytes']:,} bytes for {vendor} {chip}; not run: no such chip is here")


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__, "bundle", "out")
    parser.add_argument("--vendor", required=True, choices=sdk.LITERT, help="ONNX models: qualcomm, by onnxruntime-qnn")
    parser.add_argument("--chip", required=True, help="as the vendor calls it: SM8750")
    parser.add_argument("--licence-accepted", action="store_true", help="you have read and accept the SDK's licence")
    return cli.execute(
        parser,
        argv,
        lambda given: run(given.bundle, given.vendor, given.chip, given.licence_accepted, given.out),
    )


if __name__ == "__main__":
    sys.exit(main())
