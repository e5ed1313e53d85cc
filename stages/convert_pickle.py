"""Turn a checkpoint's pickled weights into safetensors, running nothing that the pickle asks for.

Reads: a directory with one pickled checkpoint (`pytorch_model.bin`, `*.pt`, `*.ckpt`), params.yaml for the limits.
Writes: a directory with `model.safetensors`, the settings and tokenizer files beside it, and `manifest.json`.
Why: import takes safetensors alone. Three lines hold here: a scan that names every foreign function the pickle would
call, torch's own unpickler restricted to tensors, and a child process with limited memory and time.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from stages.core import artifact, cli
from stages.core.errors import InputError
from stages.core.params import Section
from stages.models import confined, contents, quarantine, unpickle
from stages.schema.model import ImportLimits

# Reading holds the file's tensors once and a contiguous copy of each.
COPIES = 3


class Params(Section):
    """What a checkpoint from outside may ask of this machine."""

    limits: ImportLimits


def inspect(path: Path, limits: ImportLimits) -> None:
    """Refuse a pickle that is too large, compressed, or calls anything but what rebuilds tensors.

    Raises:
        InputError: names the file and the function.
    """
    from picklescan.scanner import SafetyLevel, scan_file_path

    size = path.stat().st_size
    if size > limits.total_bytes:
        raise InputError(f"'{path}' has {size} bytes", expected=f"at most {limits.total_bytes} (teacher.limits)")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
        if packed:  # torch.save never compresses
            raise InputError(f"'{path}' holds '{packed[0]}' compressed", expected="a checkpoint written by torch.save")
    found = scan_file_path(str(path))
    foreign = sorted(f"{one.module}.{one.name}" for one in found.globals if one.safety != SafetyLevel.Innocuous)
    if foreign or found.scan_err:
        what = f"would call '{foreign[0]}'" if foreign else "cannot be scanned"
        raise InputError(f"'{path}' {what}", expected="a pickle of tensors", next_step="do not open this file")


def run(settings: Params, checkpoint: Path, out: Path) -> None:
    """Write the same checkpoint with its weights in safetensors.

    Raises:
        InputError: there is not exactly one pickle, or it is not one of tensors.
    """
    found = contents.pickles(checkpoint) if checkpoint.is_dir() else []
    if len(found) != 1:
        names = ", ".join(f"'{path.name}'" for path in found) or "none"
        raise InputError(f"'{checkpoint}' has {len(found)} pickled files ({names})", expected="the weights alone")
    pickled = found[0]
    inspect(pickled, settings.limits)
    parents, tools = {"pickle": pickled}, ("picklescan", "safetensors", "torch")
    with artifact.writing(out, stage="convert_pickle", parents=parents, params=settings, tools=tools) as temporary:
        reason = confined.run(
            Path(unpickle.__file__),
            str(pickled),
            str(temporary / contents.WEIGHTS),
            memory_bytes=settings.limits.memory_bytes + COPIES * pickled.stat().st_size,
            cpu_seconds=settings.limits.cpu_seconds,
        )
        if reason:
            raise InputError(f"'{pickled}' cannot be converted: {reason}", expected="a pickle of tensors")
        for name in set(quarantine.LOADED) - {contents.WEIGHTS}:
            quarantine.copy(checkpoint, name, temporary, settings.limits)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    return cli.stage(__doc__, argv, run, Params, "checkpoint", "out", keys={"limits": "teacher.limits"})


if __name__ == "__main__":
    sys.exit(main())
