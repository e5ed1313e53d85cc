"""What was asked for beyond conf/: the overrides that params.yaml records, and those given now.

`dvc exp run` composes conf/ anew, so whatever `python -m stages.compose data.seed=7` had set would be gone without a
word. params.yaml therefore names its overrides, and `hydra_plugins/tinsmith.py` puts them before those of `-S`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from stages.core import params
from stages.core.errors import ConfigError
from stages.schema.plan import params_digest

KEY = "overrides"
DERIVED = ("plan", "conf_digest", "params_digest", KEY)
_complete: ContextVar[bool] = ContextVar("complete", default=False)
_whole: ContextVar[bool] = ContextVar("whole", default=False)


@contextmanager
def complete(*, whole: bool = False) -> Iterator[None]:
    """Compose in this block with what is given and nothing else, and if `whole` with all that no variant names too."""
    tokens = _complete.set(True), _whole.set(whole)
    try:
        yield
    finally:
        _complete.reset(tokens[0])
        _whole.reset(tokens[1])


def is_complete() -> bool:
    """Whether what is given is all, as `stages.compose` has it; DVC gives only what is to change."""
    return _complete.get()


def is_whole() -> bool:
    """Whether what no variant names stays, for whoever chooses from it."""
    return _whole.get()


def to_keep(path: Path) -> list[str]:
    """Return the overrides that a composition by somebody else, DVC that is, has to begin with.

    Raises:
        ConfigError: the file was edited by hand, or does not say how it was composed: both would be lost.
    """
    if is_complete() or not path.is_file():
        return []
    tree = params.read(path)
    if KEY not in tree or tree.get("params_digest") != params_digest(tree):
        why = "was edited by hand" if KEY in tree else "does not say with which overrides it was composed"
        raise ConfigError(
            f"'{path.name}' {why}, and composing it anew would lose that",
            next_step="put what you want into conf/ or into `python -m stages.compose KEY=VALUE …`, then try again",
        )
    return recorded(tree)


def recorded(tree: dict[str, Any]) -> list[str]:
    """Return the overrides that a params.yaml names."""
    return [str(entry) for entry in tree.get(KEY) or ()]


def join(kept: Sequence[str], given: Sequence[str]) -> list[str]:
    """Put given overrides after kept ones; of the same key the last counts, and only it is kept."""
    last = {key_of(entry): entry for entry in [*kept, *given]}
    return [entry for entry in [*kept, *given] if last.get(key_of(entry)) is entry]


def key_of(override: str) -> str:
    """Return what stands before the `=`: `data.seed`, `+variants.v1`, `~student`."""
    return override.partition("=")[0]


def quoted(overrides: Sequence[str]) -> str:
    """Return overrides as they are typed."""
    return shlex.join(overrides)


def parsed(overrides: Sequence[str], *, several: bool = False) -> list[Any]:
    """Parse overrides as Hydra does.

    Args:
        overrides: as they were typed.
        several: whether one may name several values, as a sweep's do.

    Raises:
        ConfigError: one is none; the message has the value in the quotes it needs.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser, found = OverridesParser.create(), []
    for entry in overrides:
        key, equals, value = entry.partition("=")
        if not key.lstrip("+~") or not (equals or key.startswith("~")):
            raise ConfigError(f"'{entry}' sets nothing", expected="KEY=VALUE, e.g. `data.seed=7` or `student=none`")
        try:
            override = parser.parse_override(entry)
        except HydraException as error:
            raise _unreadable(parser, key, value) from error
        if override.is_sweep_override() and not several:
            raise ConfigError(
                f"'{entry}' is a choice of several values",
                expected=f"a list, `{key}=[{value}]`, or one text, {_in_quotes(key, value)}",
                next_step="to build one after the other, use `python -m stages.sweep`",
            )
        found.append(override)
    return found


def _unreadable(parser: Any, key: str, value: str) -> ConfigError:
    from hydra.errors import HydraException

    try:
        parser.parse_override(f"{key}='{_escaped(value)}'")
    except HydraException:
        return ConfigError(f"'{key}={value}' cannot be read", expected="KEY=VALUE with a key of conf/, dots between")
    odd = sorted({letter for letter in value if letter in "=#'\"()[]{},:&<>|;!^`~ " or ord(letter) > 126})
    return ConfigError(
        f"the value of '{key}' cannot be read as it stands{f' ({chr(32).join(odd)} in it)' if odd else ''}",
        expected="such a value in quotes, and these in quotes of the shell",
        next_step=f"write {_in_quotes(key, value)}",
    )


def _in_quotes(key: str, value: str) -> str:
    override = f"{key}='{_escaped(value)}'"
    return '"' + override + '"' if not set(override) & set('"$`\\!') else shlex.quote(override)


def _escaped(value: str) -> str:
    return value.replace("\\'", "'").replace("'", "\\'")
