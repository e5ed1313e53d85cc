"""Compose conf/ into params.yaml, and keep the two from drifting apart.

Reads: conf/, and with `--check` params.yaml.
Writes: params.yaml; with `--check` a constant receipt, so that nothing downstream reruns for a comment.
Why: `dvc repro` never composes conf/, so an edit there would be silently ignored; only `dvc exp run` composes.

    python -m stages.compose                          compose the defaults
    python -m stages.compose experiment=clinc150      with Hydra overrides
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core import artifact, cli, params
from stages.core.errors import ConfigError, StaleParams
from stages.schema.config import Config, check
from stages.schema.plan import conf_digest, params_digest

CONF = Path("conf")
PER_VARIANT = ("artifact", "parity", "benchmark")


def compose(overrides: Sequence[str], out: Path) -> None:
    """Compose and validate, then replace `out`; on an error `out` stays as it was.

    Uses DVC's own composition, so that `dvc exp run` writes the same bytes.

    Raises:
        ConfigError: Hydra or the schema refuses the configuration.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    temporary = out.with_name(f".{out.stem}.tmp.yaml")
    try:
        compose_and_dump(temporary, str(CONF.resolve()), None, "config", str(Path.cwd()), list(overrides))
        validate(params.read(temporary))
        temporary.replace(out)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"conf/ does not compose: {error}", next_step="mend conf/ or the override") from error
    finally:
        temporary.unlink(missing_ok=True)


def validate(tree: dict[str, Any]) -> Config:
    """Check types, ranges, choices and the rules that span groups.

    Raises:
        ConfigError: the first thing that is wrong.
    """
    if not tree.get("variants"):
        raise ConfigError("no variant is chosen", expected="at least one in the `variant` list of conf/config.yaml")
    config = params.parse(Config, tree, "")
    check(config)
    return config


def check_fresh(tree: dict[str, Any], conf: Path) -> None:
    """Refuse a params.yaml that another conf/ composed, or that was edited by hand: a loosened gate, say.

    Raises:
        StaleParams: names the repairing command.
    """
    if tree.get("conf_digest") != conf_digest(conf):
        raise StaleParams("conf/ has changed since it was composed")
    if tree.get("params_digest") != params_digest(tree):
        raise StaleParams("it was edited by hand")


def remove_leftovers(build: Path, variants: Sequence[str]) -> list[str]:
    """Delete the outputs of variants that are no longer chosen, so that none enters a report or a release."""
    removed = []
    for stage in PER_VARIANT:
        for path in sorted((build / stage).glob("*")):
            if path.is_dir() and not path.name.startswith(".") and path.name not in variants:
                shutil.rmtree(path)
                removed.append(path.as_posix())
    return removed


def run_check(tree: dict[str, Any], out: Path) -> None:
    """Check params.yaml against conf/ and the schema, clear leftovers, write the receipt."""
    check_fresh(tree, CONF)
    config = validate(tree)
    for path in remove_leftovers(out.parent, list(config.variants)):
        print(f"removed '{path}': its variant is no longer chosen")
    artifact.write_json(out, {"params": "follow from conf/"})


def _body(arguments: argparse.Namespace) -> None:
    if arguments.check:
        run_check(params.read(arguments.params), arguments.check)
    else:
        compose(arguments.overrides, arguments.params)


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = cli.parser(__doc__)
    parser.add_argument("--check", type=Path, metavar="RECEIPT", help="compare instead of composing")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, e.g. experiment=clinc150")
    return cli.execute(parser, argv, _body)


if __name__ == "__main__":
    sys.exit(main())
