"""Leave an interrupted training in a state that it goes on from to the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

SECONDS = 60.0
"""From one state to the next: what an interruption costs at most. MiniLM's has 180 MB with its embeddings frozen."""
KEPT = 2
"""States on the disk: one may be half-written."""
STATE, BEST, INPUTS = "tinsmith.json", "best.safetensors", "inputs.sha256"
CODE = Path(__file__).parents[1]
TOOLS = ("accelerate", "numpy", "tokenizers", "torch", "transformers")


def same_inputs(directory: Path, read: Mapping[str, Any]) -> None:
    """Prepare a directory for states; those that other inputs, code, libraries or instructions made are removed.

    Args:
        directory: made where there is none.
        read: what the training depends on, as JSON.
    """
    known = hashlib.sha256(json.dumps(read, sort_keys=True).encode())
    for path in sorted(CODE.rglob("*.py")):
        known.update(path.read_bytes())
    for name in TOOLS:
        known.update(version(name).encode())
    known.update(json.dumps(dict(torch.cpu.get_capabilities()), sort_keys=True).encode())
    mark = directory / INPUTS
    if not (mark.is_file() and mark.read_text(encoding="utf-8") == known.hexdigest()):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        mark.write_text(known.hexdigest(), encoding="utf-8")


class Interruptible(TrainerCallback):  # type: ignore[misc]
    """Has Trainer write its state every `SECONDS`, and writes beside it what Trainer does not know of.

    That is where the shuffles of an epoch began, the learning curve, and the weights of the best epoch. The file that
    says so is written last: a state without it is half-written and not gone on from.
    """

    def __init__(self, loop: Any, curve: Any, directory: Path) -> None:
        """Watch over a training.

        Args:
            loop: `training.Loop`, which trains.
            curve: its `training.Curve`, which must be told of a step before this is.
            directory: where states lie.
        """
        self.loop, self.curve, self.directory = loop, curve, directory
        self.written = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask Trainer to save when it is time to."""
        if time.monotonic() - self.written >= SECONDS and state.global_step < args.max_steps:
            control.should_save = True

    def on_save(self, args: Any, state: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002 (Trainer's signature)
        """Write down the rest."""
        place = self.directory / f"checkpoint-{state.global_step}"
        best = self.curve.best
        if best.weights:
            save_file(best.weights, place / BEST)
        whole = {
            "shuffle": self.loop.sampler.state(at_start=state.global_step % len(self.loop.sampler) > 0),
            "losses": [float(loss) for loss in self.loop.losses],
            "rows": self.curve.rows,
            "best": [best.accuracy, best.step],
        }
        half = place / f"{STATE}.tmp"
        with half.open("w", encoding="utf-8") as stream:
            json.dump(whole, stream)
            stream.flush()
            os.fsync(stream.fileno())
        half.replace(place / STATE)
        self.written = time.monotonic()

    def found(self) -> str | None:
        """Return the newest whole state after taking up what Trainer does not know of, None where there is none."""
        places = {int(path.parent.name.rpartition("-")[2]): path.parent for path in self.directory.glob(f"*/{STATE}")}
        if not places:
            return None
        step = max(places)
        whole = json.loads((places[step] / STATE).read_text(encoding="utf-8"))
        self.loop.sampler.restore(whole["shuffle"])
        self.loop.collate.calls = step
        self.loop.losses.extend(torch.tensor(loss) for loss in whole["losses"])
        self.curve.go_on(step, whole["rows"])
        best = self.curve.best
        best.accuracy, best.step = whole["best"]
        if (places[step] / BEST).is_file():
            best.weights = load_file(places[step] / BEST)
        return str(places[step])
