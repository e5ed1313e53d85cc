"""One job of a sweep: compose, build in a worktree, record. Whatever happens to it, the other jobs go on."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from stages.core import params
from stages.core.artifact import read_json, write_json
from stages.core.errors import TinsmithError, first_line
from stages.gating import explained
from stages.schema.config import Config
from stages.schema.layout import EXPLAINED, VERDICTS
from stages.schema.plan import leave_out
from stages.sweeping import flight, git, workspace
from stages.sweeping.build import Builder, Step, environment_of
from stages.sweeping.ledger import Ledger, job_id
from stages.sweeping.pipeline import Pipeline
from stages.sweeping.remote import Remote
from stages.sweeping.screening import Screen
from stages.sweeping.settings import Sweep, read
from stages.targets.supported import check

ROOT = Path(__file__).resolve().parents[2]
JUDGED = (VERDICTS, EXPLAINED, "metrics.json")

_sources: dict[Path, dict[str, tuple[Any, Any]]] = {}


def run(config: DictConfig, overrides: Sequence[str], output: Path) -> dict[str, Any]:
    """Run a job, or return its record when this sweep has it already.

    Args:
        config: what Hydra composed from conf/sweep.yaml.
        overrides: what was asked for, for people.
        output: the sweep's directory.

    Returns:
        The job's record; a failure is a record too.
    """
    settings, tree, text = resolve(config)
    ledger, identity = Ledger(output), job_id(tree)
    session = read_json(output / "sweep.json")
    with flight.hold(ledger.locks, identity):
        found = ledger.read(identity)
        if found and found["revision"] == session["revision"]:
            (ledger.job(identity) / "job.json").touch()  # tells the progress display that it was asked for
            return found
        record = _attempt(settings, tree, text, ledger, session) | {
            "id": identity,
            "overrides": list(overrides),
            "host": socket.gethostname(),
            "revision": session["revision"],
        }
        ledger.write(record)
    return record


def resolve(config: DictConfig) -> tuple[Sweep, dict[str, Any], str]:
    """Part a composed configuration into the sweep's settings and the build's parameters, as values and as YAML."""
    build = config.copy()
    with open_dict(build):
        plain = OmegaConf.to_container
        settings = read(plain(build.pop("sweep"), resolve=True), plain(build.devices, resolve=True))
        leave_out(build)  # type: ignore[arg-type]
    OmegaConf.resolve(build)
    tree: Any = OmegaConf.to_container(build)
    return settings, tree, OmegaConf.to_yaml(build)


def _attempt(
    settings: Sweep, tree: dict[str, Any], text: str, ledger: Ledger, session: dict[str, Any]
) -> dict[str, Any]:
    """Build, and turn every way it can end into a record."""
    place = ledger.job(job_id(tree))
    place.mkdir(parents=True, exist_ok=True)
    (place / "params.yaml").write_text(text, encoding="utf-8")
    started, cpu = time.time(), time.process_time()
    try:
        if tree["variants"]:
            record = _build(settings, tree, text, ledger, session, place)
        else:
            record = {"state": "unsupported", "reason": "its target cannot be lowered to its precision"}
    except TinsmithError as error:
        record = {"state": "failed", "reason": str(error)}
    except Exception as error:  # a defect of ours or DVC's ends this job, not the sweep
        with (place / "log.txt").open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
        record = {"state": "failed", "reason": f"{type(error).__name__}: {first_line(error)}; see {place / 'log.txt'}"}
    return {
        "own_cpu_s": round(time.process_time() - cpu, 3),
        "reason": "",
        "started": started,
        "steps": [],
        "variants": {},
        "wall_s": round(time.time() - started, 3),
    } | record


def _build(
    settings: Sweep, tree: dict[str, Any], text: str, ledger: Ledger, session: dict[str, Any], place: Path
) -> dict[str, Any]:
    check(params.parse(Config, tree, ""))
    here = workspace.of_this_process(ROOT, ledger.directory, session["revision"])
    here.take(tree, text)
    builder = Builder(
        ledger,
        workspace.cache_directory(ROOT) / "flights",
        Remote(settings.remote),
        environment_of(ROOT, settings.name),
        place / "log.txt",
    )
    with contextlib.chdir(here.path):  # DVC resolves paths of stages against it
        pipeline = Pipeline(here.path, ["track" if settings.track else "explain"], _sources.setdefault(here.path, {}))
        try:
            screen = Screen(pipeline, tree, settings.profiles if settings.screen else {})
            steps, done = builder.build(pipeline, screen.is_useless)
            pipeline.write_lock(place / "dvc.lock", done)
            if len(done) < len(pipeline.order):
                return _stopped(screen, steps, tree)
            for name in JUDGED:
                shutil.copyfile(pipeline.file(f"build/{name}"), place / name)
            variants = explained.read_verdicts(place / VERDICTS)
        finally:
            pipeline.close()
    name = f"{settings.name}-{place.name}"
    files = {"params.yaml": place / "params.yaml", "dvc.lock": place / "dvc.lock"}
    git.save_experiment(ROOT, session["baseline"], session["revision"], name, files)
    return {"state": "done", "experiment": name, "steps": _plain(steps), "variants": _marked(variants, steps)}


def _stopped(screen: Screen, steps: list[Step], tree: dict[str, Any]) -> dict[str, Any]:
    """Record what was known when the job became useless, and after which stage."""
    reason = "; ".join(f"{variant}: {why}" for variant, why in screen.refusals.items())
    variants = {
        key: {
            **{name: tree["variants"][key][name] for name in ("compression", "precision", "target")},
            "metrics": values,
            "reasons": [screen.refusals[key]],
            "verdict": None,
        }
        for key, values in screen.values.items()
    }
    return {
        "state": "stopped",
        "reason": f"after {steps[-1].stage}: {reason}",
        "steps": _plain(steps),
        "variants": variants,
    }


def _plain(steps: list[Step]) -> list[dict[str, Any]]:
    return [asdict(step) for step in steps]


def _marked(variants: dict[str, Any], steps: list[Step]) -> dict[str, Any]:
    """Keep with each variant how much else the host did during its benchmark, even if another job ran it."""
    for step in steps:
        stage, _, variant = step.stage.partition("@")
        if stage == "benchmark":
            memory = workspace.cache_directory(ROOT) / "flights" / step.key / "benchmark.json"
            if step.foreign_cores is not None:
                write_json(memory, {"foreign_cores": step.foreign_cores})
            foreign = read_json(memory)["foreign_cores"] if memory.is_file() else None
            variants[variant]["foreign_cores"] = foreign
    return variants
