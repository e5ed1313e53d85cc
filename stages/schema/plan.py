"""What follows from a composed conf/: the digest that dates it, and the graph's instances that dvc.yaml iterates over.

Hydra resolvers (`hydra_plugins/tinsmith.py`) call these while params.yaml is composed, by `stages.compose` and by
`dvc exp run` alike, so that both write the same file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from stages.core.errors import ConfigError
from stages.core.names import module_name
from stages.schema.data import Samples
from stages.schema.transfer import Transfer

Tree = Mapping[str, Any]

SPLITS = ("train", "validation", "test")
SAMPLES = "samples"
"""Kind of data that a stage of the graph makes."""
STAND_INS = tuple(f"stages/{room}/__init__.py" for room in ("core", "data", "measure", "models"))
"""Files that never change, for what stages depend on where there is none of it: DVC wants paths, all different."""
NO_TRANSFER = dict(zip(("asked", "asked_statement", "texts", "texts_statements"), STAND_INS, strict=True))
"""What a student learns from beside the train split, where that is nothing."""
NAMED = {"compression": "compressions", "target": "targets", "precision": "precisions"}
"""What a variant names, and the key that has all of it."""


def conf_digest(conf: Path) -> str:
    """Return the sha256 over names and text of every YAML file below conf/ that can change a build; sweeps' cannot.

    How lines end is left out: git checks the same text out one way or the other.
    """
    digest = hashlib.sha256()
    for path in sorted(conf.rglob("*.yaml")):
        if path.relative_to(conf).parts[0].removesuffix(".yaml") == "sweep":
            continue
        digest.update(f"{path.relative_to(conf).as_posix()}\0".encode())
        text = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(hashlib.sha256(text).digest())
    return digest.hexdigest()


def params_digest(tree: Tree) -> str:
    """Return the sha256 over all composed values but the digest itself, to tell a hand-edited params.yaml."""
    others = {key: value for key, value in tree.items() if key != "params_digest"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


def leave_out(config: MutableMapping[str, Any]) -> list[str]:
    """Take compressions, targets, precisions and their thresholds out that no variant names.

    Args:
        config: the composed configuration, which loses them; all of it stays where there are no variants.

    Returns:
        Dotted keys of what was taken out.
    """
    names = named(config)
    places = [(config[group], group, names[group]) for group in NAMED.values()]
    places.append((config["gate"]["precisions"], "gate.precisions", names["precisions"]))
    gone = [(place, where, name) for place, where, keep in places for name in [*place] if keep and name not in keep]
    for place, _, name in gone:
        del place[name]
    return [f"{where}.{name}" for _, where, name in gone]


def named(config: Tree) -> dict[str, set[str]]:
    """Return the compressions that variants name, with the steps before them, and the targets and precisions.

    Raises:
        ConfigError: a variant has no compression, or a `.` in its name made Hydra nest it; it names what is not
            selected; or its compressions cannot be ordered.
    """
    found: dict[str, set[str]] = {group: set() for group in NAMED.values()}
    for key, variant in (config.get("variants") or {}).items():
        if not isinstance(variant, Mapping) or not set(NAMED) <= set(variant):
            raise ConfigError(
                f"variant '{key}' names no compression, target or precision",
                expected="all three, and no '.' in a variant's name",
            )
        for kind, group in NAMED.items():
            if variant[kind] not in config[group]:
                raise ConfigError(
                    f"variant '{key}' names {kind} '{variant[kind]}', which conf/config.yaml does not select",
                    expected=f"one of: {', '.join(config[group])}",
                    next_step="to build fewer variants, choose them: `variant=[…]`",
                )
            found[group].add(variant[kind])
    found["compressions"] = {step for name in found["compressions"] for step in chain(config["compressions"], name)}
    return found


def derive(tree: Tree) -> dict[str, Any]:
    """Derive the instances of every repeated stage from the chosen variants.

    Args:
        tree: the composed configuration, without `plan`.

    Returns:
        `baseline`, `data`, `task`, `teacher` and `transfer` (what file or module a stage depends on), and for
        `foreach`: `compressions` (C, with those a chosen one comes after), `conversions` (C-T), `samples`, `texts`,
        `transfers` and `variants` (V), each a mapping from key to the fields dvc.yaml interpolates; `references`, the
        compressions that variants name.

    Raises:
        ConfigError: compressions cannot be ordered.
    """
    known: Tree = tree.get("compressions") or {}
    variants: dict[str, Any] = {}
    conversions: dict[str, Any] = {}
    compressions: dict[str, Any] = {}
    for key, variant in (tree.get("variants") or {}).items():
        compression, target = variant["compression"], variant["target"]
        conversion = f"{compression}-{target}"
        compressions |= _steps(known, chain(known, compression))
        conversions[conversion] = {"compression": compression, "target": target, "module": module_name(target)}
        variants[key] = {**conversions[conversion], "conversion": conversion, "precision": variant["precision"]}
    return {
        "baseline": _baseline(tree.get("gate") or {}),
        "compressions": compressions,
        "conversions": conversions,
        "data": _sources(tree["data"]),
        "references": sorted({variant["compression"] for variant in variants.values()}),
        "samples": _samples(tree),
        "task": {"module": module_name(tree["task"]["name"])},
        "teacher": {"source": _teacher_source(tree["teacher"])},
        **_transfer(tree),
        "variants": variants,
    }


def chain(compressions: Tree, name: str) -> list[str]:
    """Return a compression and all it comes after, last step first.

    Raises:
        ConfigError: one comes after another that is not selected, or after itself.
    """
    steps = [name]
    while after := compressions[steps[-1]].get("after"):
        if after in steps:
            raise ConfigError(
                f"compressions go round in a circle: {' after '.join([*steps, after])}",
                expected="a first one with `after: null`, which starts from the student",
            )
        if after not in compressions:
            raise ConfigError(
                f"compression '{steps[-1]}' comes after '{after}', which conf/config.yaml does not select",
                expected=f"one of: {', '.join(compressions)}",
            )
        steps.append(after)
    return steps


def _steps(known: Tree, steps: list[str]) -> dict[str, Any]:
    """Fields of the stages of one chain: a step's kind, and what below build/ it starts from."""
    sources = [*(f"compressed/{after}" for after in steps[1:]), "student"]
    return {name: {"kind": known[name]["kind"], "source": source} for name, source in zip(steps, sources, strict=True)}


def _baseline(gate: Tree) -> str:
    """Name the bundles that no variant may fall behind."""
    return str((gate.get("baseline") or {}).get("bundles", STAND_INS[0]))


def _sources(data: Tree) -> dict[str, str]:
    """Name three paths that the data depend on: one that is no pinned one, or a file for each split."""
    standing_in = dict(zip(SPLITS, STAND_INS, strict=False))
    if data.get("kind") == SAMPLES:
        given = {SPLITS[0]: Samples.PLACE}
    elif "path" in data:
        local = data["path"] is not None and data.get("revision") is None
        given = {SPLITS[0]: data["path"]} if local else {}
    else:
        given = {split: data[split] for split in SPLITS if data.get(split)}
    return {split: str(path) for split, path in (standing_in | given).items()}


def _samples(tree: Tree) -> dict[str, Any]:
    """Who writes the data where they are written: one, or nobody."""
    return {"teacher": {"source": _teacher_source(tree["teacher"])}} if tree["data"].get("kind") == SAMPLES else {}


def _transfer(tree: Tree) -> dict[str, Any]:
    """Who is asked for a student that learns from more than the train split, and the sources of unlabelled texts."""
    transfer = tree.get("transfer") or {}
    asked = transfer.get("kind") == "texts" and (tree.get("student") or {}).get("kind") == "shape"
    sources = {str(number): {"source": path} for number, path in enumerate(transfer.get("text") or ())} if asked else {}
    places = dict(NO_TRANSFER)
    if asked:
        places |= {"asked": Transfer.PLACE, "asked_statement": "build/statements/transfer.json"}
    if sources:
        places |= {"texts": Transfer.TEXTS, "texts_statements": "build/statements/text"}
    return {"texts": sources, "transfer": places, "transfers": {"teacher": {}} if asked else {}}


def _teacher_source(teacher: Tree) -> str:
    local = teacher["kind"] in ("checkpoint", "finetune") and teacher.get("revision") is None
    return str(teacher["path"]) if local else STAND_INS[0]
