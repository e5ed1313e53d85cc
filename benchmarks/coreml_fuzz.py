"""Feed the executor damaged packages: each must run, or be refused with a `ProgramError`; nothing else may happen.

`python -m benchmarks.coreml_fuzz PACKAGE [--count 2000] [--seed 0]` limits its own memory, so that a package that could
exhaust it fails the run; prints how many packages ran, were refused, and by which class.
"""

from __future__ import annotations

import argparse
import collections
import random
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coreml_edit import MODEL, WEIGHTS
from stages.coreml import Program, open_program, proto
from stages.coreml.errors import ProgramError

_EXTREMES = (0, 1, -1, 2, 7, 127, 255, 1 << 16, (1 << 31) - 1, -(1 << 31), 1 << 40, (1 << 62) + 1)
MEMORY_BYTES = 4 << 30


def damage_bytes(data: bytes, chance: random.Random) -> bytes:
    """Flip, overwrite, cut, repeat or insert bytes."""
    changed = bytearray(data)
    kind = chance.choice(("flip", "flip", "overwrite", "cut", "repeat", "insert"))
    position = chance.randrange(max(len(changed), 1))
    if kind == "flip":
        for _ in range(chance.randint(1, 8)):
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    elif kind == "overwrite":
        length = chance.randint(1, 16)
        changed[position : position + length] = chance.randbytes(length)
    elif kind == "cut":
        del changed[position : position + chance.choice((1, 64, len(changed)))]
    else:
        part = changed[position : position + 64] if kind == "repeat" else chance.randbytes(chance.randint(1, 16))
        changed[position:position] = part
    return bytes(changed)


def damage_fields(model: Any, chance: random.Random) -> None:
    """Set random fields of the parsed program to extreme values, other names or other operations."""
    function = model.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    for _ in range(chance.randint(1, 3)):
        operation = chance.choice(operations)
        other = chance.choice(operations)
        chance.choice((_type, _shape, _argument, _value, _kind, _offset))(operation, other, chance)


def _type(operation: Any, other: Any, chance: random.Random) -> None:
    del chance
    operation.type = other.type


def _shape(operation: Any, other: Any, chance: random.Random) -> None:
    del other
    for output in operation.outputs:
        for dimension in output.type.tensorType.dimensions:
            dimension.constant.size = abs(chance.choice(_EXTREMES))


def _argument(operation: Any, other: Any, chance: random.Random) -> None:
    if operation.inputs and other.outputs:
        key = chance.choice(sorted(operation.inputs))
        for argument in operation.inputs[key].arguments:
            argument.name = other.outputs[0].name


def _value(operation: Any, other: Any, chance: random.Random) -> None:
    del other
    for value in operation.attributes.values():
        tensor = value.immediateValue.tensor
        for field in ("ints", "longInts"):
            values = getattr(tensor, field).values
            for index in range(len(values)):
                limit = chance.choice(_EXTREMES)
                values[index] = limit if field == "longInts" else max(min(limit, 2**31 - 1), -(2**31))
        for index in range(len(tensor.floats.values)):
            tensor.floats.values[index] = chance.choice((np.nan, np.inf, -1e38, 0.0))


def _kind(operation: Any, other: Any, chance: random.Random) -> None:
    del other
    for output in operation.outputs:
        output.type.tensorType.dataType = chance.choice((1, 2, 10, 11, 21, 23, 25, 31, 37, 99))
        output.type.tensorType.rank = chance.choice(_EXTREMES)


def _offset(operation: Any, other: Any, chance: random.Random) -> None:
    del other
    for value in operation.attributes.values():
        if value.WhichOneof("value") == "blobFileValue":
            value.blobFileValue.offset = chance.choice((0, 1, 64, 128, 1 << 20, (1 << 64) - 64, (1 << 63) - 1))


def zeros(program: Program) -> dict[str, Any]:
    """Return an input a program accepts by its declaration."""
    found = {}
    for item in program.inputs:
        shape = item.shapes[0] if item.shapes else tuple(size or 1 for size in item.type.shape)
        if int(np.prod([float(size) for size in shape], initial=1.0)) > 1 << 20:
            raise ProgramError(f"input '{item.name}' of shape {shape}", expected="one that a test can make")
        found[item.name] = np.zeros(shape, item.type.dtype.numpy)
    return found


def attempt(package: Path) -> str:
    """Open and run a package; returns `ran` or the class that refused it."""
    try:
        program = open_program(package)
        state = program.make_state() if program.states else None
        program.run(zeros(program), "declared", state=state)
    except ProgramError as error:
        return type(error).__name__
    return "ran"


def fuzz(package: Path, count: int, seed: int) -> tuple[collections.Counter[str], float]:
    """Damage a package `count` times.

    Returns:
        Outcomes, and the longest time one package took in seconds.
    """
    chance = random.Random(seed)
    outcomes: collections.Counter[str] = collections.Counter()
    longest = 0.0
    model_bytes, weight_bytes = (package / MODEL).read_bytes(), (package / WEIGHTS).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "damaged.mlpackage"
        shutil.copytree(package, copy)
        for index in range(count):
            model, weights = model_bytes, weight_bytes
            if index % 4 == 0:
                model = damage_bytes(model, chance)
            elif index % 4 == 1:
                weights = damage_bytes(weights, chance)
            else:
                message = proto.read_model(package / MODEL)
                damage_fields(message, chance)
                model = message.SerializeToString(deterministic=True)
            (copy / MODEL).write_bytes(model)
            (copy / WEIGHTS).unlink()
            (copy / WEIGHTS).write_bytes(weights)
            started = time.perf_counter()
            outcomes[attempt(copy)] += 1
            longest = max(longest, time.perf_counter() - started)
    return outcomes, longest


def main(argv: list[str]) -> int:
    """Fuzz one package within limited memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    outcomes, longest = fuzz(arguments.package, arguments.count, arguments.seed)
    print(f"{dict(outcomes)}; longest {longest:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
