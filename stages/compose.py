"""Compose conf/ into params.yaml, and keep the two from drifting apart.

Reads: conf/, and with `--check` params.yaml.
Writes: params.yaml; with `--check` a constant receipt, so that nothing downstream reruns for a comment.
Why: `dvc repro` never composes conf/, so an edit there would be silently ignored; only `dvc exp run` composes.

    python -m stages.compose                          compose the defaults
    python -m stages.compose experiment=clinc150      with Hydra overrides, which params.yaml records
    python -m stages.compose --keep data.seed=7       with those recorded, and one more; so does `dvc exp run -S …`
    python -m stages.compose --schemas build/schemas  JSON Schemas of conf/'s groups instead, for editors
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact, cli, params
from stages.core.errors import ConfigError, InputError
from stages.models import families
from stages.models.families.base import ACTIVATION
from stages.schema import advice, editing, overrides
from stages.schema.config import Config
from stages.schema.data import Samples
from stages.schema.fresh import check_fresh
from stages.schema.model import CheckpointTeacher, Shape, Student, TrainTeacher
from stages.schema.transfer import Transfer
from stages.targets.supported import check
from stages.tasks import registry as tasks

CONF = Path("conf")
RELATIVE = "a file or directory, relative to the repository"
PINNED = "a hub id needs a pinned revision"


def compose(given: Sequence[str], out: Path) -> None:
    """Compose and validate, then replace `out`; on an error `out` stays as it was.

    Uses DVC's own composition, so that `dvc exp run` writes the same bytes.

    Args:
        given: Hydra overrides.
        out: params.yaml.

    Raises:
        ConfigError: Hydra or the schema refuses the configuration.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    advice.check(overrides.parsed(given), CONF, None)
    temporary = out.with_name(f".{out.stem}.tmp.yaml")
    try:
        _dump(given, temporary)
        validate(params.read(temporary))
        temporary.replace(out)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"conf/ does not compose: {error}", next_step="mend conf/ or the override") from error
    finally:
        temporary.unlink(missing_ok=True)


def _dump(given: Sequence[str], out: Path) -> None:
    from dvc.utils.hydra import compose_and_dump

    with overrides.complete():
        compose_and_dump(out, str(CONF.resolve()), None, "config", str(Path.cwd()), list(given))


def recompose(given: Sequence[str], out: Path, *, keep: bool) -> None:
    """Compose as the command line asks, and say what params.yaml had before and has no longer.

    Args:
        given: Hydra overrides.
        out: params.yaml.
        keep: begin with the overrides that params.yaml records.
    """
    try:
        before = overrides.recorded(params.read(out)) if out.is_file() else []
    except ConfigError:
        if keep:
            raise
        before = []  # broken, and about to be replaced
    wanted = overrides.join(before if keep else [], given)
    compose(wanted, out)
    set_again = {overrides.key_of(entry) for entry in wanted}
    if gone := [entry for entry in before if overrides.key_of(entry) not in set_again]:
        print(f"no longer set: {overrides.quoted(gone)} (`--keep` keeps it)", file=sys.stderr)


def validate(tree: dict[str, Any]) -> Config:
    """Check types, ranges, choices and the rules that span groups.

    Raises:
        ConfigError: the first thing that is wrong.
        Unsupported: something that cannot be done with what is chosen.
    """
    if not tree.get("variants"):
        raise ConfigError("no variant is chosen", expected="at least one in the `variant` list of conf/config.yaml")
    config = params.parse(Config, tree, "")
    check(config)
    asked = tasks.model(config.task.name)
    if isinstance(config.teacher, TrainTeacher):
        _check_shapes(config.teacher, config.student, families.with_head(asked.HEAD))
        for name in config.plan["compressions"]:
            families.check_offered(families.find(config.teacher.family), config.compressions[name].needs, name)
    if isinstance(config.data, Samples) and not (asked.CONTINUES and isinstance(config.teacher, CheckpointTeacher)):
        raise ConfigError(
            f"data=samples asks the teacher of task '{config.task.name}' to write before it is there",
            expected="a language model from outside: task=generate teacher=checkpoint",
        )
    if asked.CONTINUES and isinstance(config.student, Shape) and isinstance(config.transfer, Transfer):
        raise ConfigError(
            f"task '{config.task.name}' continues texts, and an altered text is none to continue",
            expected="transfer=none",
        )
    if isinstance(config.student, Shape) and config.student.pieces is not None:
        _check_pieces(config)
    return config


def _check_pieces(config: Config) -> None:
    """Refuse a vocabulary of the student's own where the teacher would have to be asked in its words."""
    if not isinstance(config.transfer, Transfer):
        raise ConfigError(
            "student.pieces is set and transfer.kind is none",
            expected="texts that the teacher has answered: transfer=…",
        )
    if config.distill.hidden_weight:
        raise ConfigError(
            "student.pieces is set and distill.hidden_weight is not 0: the teacher would read other pieces",
            expected="one of them",
        )


def _check_shapes(teacher: TrainTeacher, student: Student, known: Sequence[str]) -> None:
    """Refuse a family that the task does not take, and an activation that the family does not have."""
    if teacher.family not in known:
        raise ConfigError(
            f"teacher.family is '{teacher.family}'",
            expected=f"one of: {', '.join(known)}",
            next_step="choose a teacher of this task, or none: it has its own",
        )
    family = families.find(teacher.family)
    rule = family.rules[family.activation]
    shapes = {"teacher": teacher} | ({"student": student} if isinstance(student, Shape) else {})
    for name, shape in shapes.items():
        if rule is not ACTIVATION and not rule.fits(shape.activation):
            raise ConfigError(
                f"{name}.activation is '{shape.activation}'", expected=f"{rule.expected} in '{family.name}'"
            )


def check_sources(plan: Mapping[str, Any]) -> None:
    """Refuse data and a teacher that are not there, before DVC does with less to say.

    Raises:
        InputError: names the path and how to give another.
    """
    paths = {f"data ({name})": path for name, path in plan["data"].items() if path != Samples.PLACE}
    texts = {f"transfer.text[{number}]": one["source"] for number, one in plan["texts"].items()}
    for role, path in {**paths, **texts, "teacher": plan["teacher"]["source"]}.items():
        if not Path(path).exists():
            main = os.environ.get("DVC_ROOT")  # which DVC sets where it runs an experiment apart
            apart = f" from '{Path.cwd()}', where DVC runs this experiment" if main and Path(main) != Path.cwd() else ""
            raise InputError(
                f"{role}: '{path}' does not exist{apart}",
                expected=f"{'an absolute path or one that git or DVC tracks' if apart else RELATIVE}; {PINNED}",
                next_step="give the right path, e.g. `python -m stages.compose --keep data.path=… teacher.path=…`",
            )


def run_check(tree: dict[str, Any], out: Path) -> None:
    """Check params.yaml against conf/, the schema and what lies outside, and write the receipt."""
    check_fresh(tree, CONF)
    check_sources(validate(tree).plan)
    artifact.write_json(out, {"params": "follow from conf/"})


def _body(arguments: argparse.Namespace) -> None:
    if arguments.check:
        run_check(params.read(arguments.params), arguments.check)
    elif arguments.schemas:
        for group, schema in editing.schemas(CONF).items():
            artifact.write_json(arguments.schemas / f"{group}.json", schema)
    else:
        recompose(arguments.overrides, arguments.params, keep=arguments.keep)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--check", type=Path, metavar="RECEIPT", help="compare instead of composing")
    parser.add_argument("--schemas", type=Path, metavar="DIRECTORY", help="write JSON Schemas instead of composing")
    parser.add_argument("--keep", action="store_true", help="begin with the overrides that params.yaml records")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, e.g. experiment=clinc150")
    return cli.execute(parser, argv, _body, outputs=("check",))


if __name__ == "__main__":
    sys.exit(main())
