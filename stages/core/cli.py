"""The command line every stage shares: paths in, exit code out, one line per error."""

from __future__ import annotations

import argparse
import atexit
import ctypes
import errno
import gc
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from stages.core import attest, params, revision
from stages.core.errors import TinsmithError
from stages.core.params import PARAMS_FILE, Section

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MMAP_THRESHOLD = -3
"""glibc's number of the setting (malloc.h, `M_MMAP_THRESHOLD`)."""
LARGE = 1 << 20
"""Bytes from which a block of memory is asked of the kernel, and given back to it when it is freed."""
GARBAGE = 50_000
"""Objects made before the collector looks for cycles among them, Python's own being 700: importing torch and
transformers makes 400,000 that all stay."""


def parser(doc: str | None, *paths: str) -> argparse.ArgumentParser:
    """Build a stage's parser.

    Args:
        doc: the module docstring; its first line becomes the description.
        paths: names of required path arguments (`out` → `--out`).
    """
    built = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    built.add_argument("--params", type=Path, default=PARAMS_FILE, help="composed parameters")
    built.add_argument("--statement", type=Path, help="where the in-toto statement of this run goes")
    built.add_argument(
        "--done",
        type=Path,
        help="a file that is always the same, written last, for a stage that only has to come after",
    )
    for name in paths:
        built.add_argument(f"--{name}", type=Path, required=True)
    return built


def stage(
    doc: str | None,
    argv: Sequence[str] | None,
    run: Callable[..., None],
    settings: type[Section] | None,
    *paths: str,
    keys: Mapping[str, str] | None = None,
    outputs: Sequence[str] = ("out",),
) -> int:
    """Run a stage from the command line: `run(settings, PATH, …)`, or `run(PATH, …)` where it has no settings.

    Args:
        doc: the module docstring.
        argv: arguments, those of the process by default.
        run: the stage.
        settings: type of what it reads from params.yaml.
        paths: names of its path arguments, in the order in which `run` takes them.
        keys: field of the settings → dotted path in params.yaml, where that is not the field's own name; a `{name}`
            in it is filled from a required argument `--name`.
        outputs: names of the paths that it writes.

    Returns:
        The exit code, as `execute` does.
    """
    built = parser(doc, *paths)
    fields = {name: name for name in settings.model_fields} | dict(keys or {}) if settings else {}
    for group, name in re.findall(r"(\w+)\.{(\w+)}", " ".join(fields.values())):
        built.add_argument(f"--{name}", required=True, help=f"key of `{group}` in params.yaml")

    def body(arguments: argparse.Namespace) -> None:
        places = [getattr(arguments, name) for name in paths]
        if settings is None:
            return run(*places)
        dotted = {field: path.format_map(vars(arguments)) for field, path in fields.items()}
        return run(params.load(settings, dotted, arguments.params), *places)

    return execute(built, argv, body, outputs)


def execute(
    built: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    body: Callable[[argparse.Namespace], None],
    outputs: Sequence[str] = ("out",),
) -> int:
    """Parse `argv`, run `body` and turn its end into an exit code.

    Args:
        built: the parser.
        argv: arguments, those of the process by default.
        body: the work.
        outputs: names of the path arguments that `body` writes, which `--statement` attests.

    Returns:
        0 done; 1 an error the user can act on, printed as one line. Usage errors exit 2 inside argparse.
        A defect in Tinsmith itself keeps its traceback.
    """
    _give_back_large_blocks()
    gc.set_threshold(GARBAGE)
    # At the end the collector would walk all of them again, to give back what the process gives back anyway.
    atexit.register(gc.freeze)
    arguments = built.parse_args(argv)
    started, began = time.perf_counter(), datetime.now(UTC)
    try:
        if getattr(arguments, "statement", None):
            revision.require()  # before the work, not after an hour of it
        body(arguments)
        if getattr(arguments, "statement", None):
            written = [getattr(arguments, name) for name in outputs]
            attest.write(arguments.statement, written, ["python", *sys.orig_argv[1:]], began)
        if getattr(arguments, "done", None):
            arguments.done.parent.mkdir(parents=True, exist_ok=True)
            arguments.done.write_text("done\n", encoding="utf-8")
        _record_cost(built.prog, time.perf_counter() - started)
    except TinsmithError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "stages").partition(".")[0] == "stages":
            raise
        advice = "run `source .venv/bin/activate`, then the same command again (or `make repro`)"
        print(f"error: '{sys.executable}' lacks the package '{error.name}'; next: {advice}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f": '{error.filename}'" if error.filename else ""
        advice = "make room on the disk, then rerun" if error.errno in FULL else "mend it, then rerun"
        print(f"error: {error.strerror or error}{where}; next: {advice}", file=sys.stderr)
        return 1
    return 0


def _give_back_large_blocks() -> None:
    """Fix the size from which glibc gives freed memory back.

    Left alone it learns from each large block that it frees to keep the next ones, up to 32 MiB each: of a MiniLM's
    weights and gradients a sixth of the peak then lies in holes between others.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none, and no such habit
        mallopt(MMAP_THRESHOLD, LARGE)


def _record_cost(stage: str, wall_s: float) -> None:
    """Append this process's cost to the file that `benchmarks.build` names, if it does."""
    log = os.environ.get("TINSMITH_COSTS")
    if not log:
        return
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cost = {
        "argv": sys.argv[1:],
        "cpu_s": own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime,
        # ru_maxrss is in KiB on Linux, in bytes on macOS.
        "peak_rss_bytes": max(own.ru_maxrss, children.ru_maxrss) * (1 if sys.platform == "darwin" else 1024),
        "stage": Path(stage).stem,
        "wall_s": wall_s,
    }
    with Path(log).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(cost) + "\n")
