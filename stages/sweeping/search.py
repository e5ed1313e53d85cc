"""Search with Optuna for several goals at once, over as many starts as it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.core.errors import ConfigError
from stages.measure.registry import REGISTRY
from stages.sweeping import flight
from stages.sweeping.settings import Search, Sweep

if TYPE_CHECKING:
    import optuna
    from hydra.core.override_parser.types import Override

Launch = Callable[[list[list[str]]], list[dict[str, Any]]]
JOURNAL = "study.log"
JOB = "job"


def run(settings: Sweep, overrides: Sequence[Override], directory: Path, launch: Launch) -> None:
    """Run trials until `search.trials` have ended.

    Args:
        settings: goals and the search's own.
        overrides: what varies, and what is fixed.
        directory: the sweep's; its journal makes the search resume.
        launch: runs jobs, given by their overrides, and returns their records.

    Raises:
        ConfigError: nothing varies, a goal is never measured, or Optuna cannot vary what was asked for.
    """
    varied = {item.get_key_element(): distribution(item) for item in overrides if item.is_sweep_override()}
    fixed = [f"{o.get_key_element()}={o.get_value_element_as_str()}" for o in overrides if not o.is_sweep_override()]
    if not varied:
        raise ConfigError("nothing to search", expected="at least one of `key=a,b`, `range(…)`, `interval(…)`")
    with flight.hold(directory / "locks", "search"):
        study = open_study(directory / JOURNAL, settings)
        abandon_killed(study)
        while (left := settings.search.trials - len(ended(study))) > 0:
            trials = [study.ask(varied) for _ in range(min(settings.search.batch, left))]
            batch = [fixed + [f"{key}={value}" for key, value in trial.params.items()] for trial in trials]
            for trial, record in zip(trials, launch(batch), strict=True):
                tell(study, trial, record, settings.goals)


def distribution(override: Override) -> optuna.distributions.BaseDistribution:
    """Turn a Hydra sweep into what Optuna draws from.

    Raises:
        ConfigError: it is neither a choice, nor a range of integers, nor an interval.
    """
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if override.is_choice_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    if isinstance(value, RangeSweep) and all(isinstance(edge, int) for edge in (value.start, value.stop, value.step)):
        # Hydra's range leaves its end out, Optuna's includes it.
        steps = range(int(value.start or 0), int(value.stop or 0), int(value.step))
        return IntDistribution(steps[0], steps[-1], step=steps.step, log="log" in value.tags)
    if isinstance(value, IntervalSweep) and value.start is not None and value.end is not None:
        return FloatDistribution(float(value.start), float(value.end), log="log" in value.tags)
    raise ConfigError(
        f"Optuna cannot vary '{override.input_line}'",
        expected="`key=a,b`, `key=range(1,9)` of integers or `key=interval(0.0,1.0)`",
    )


def open_study(journal: Path, settings: Sweep) -> optuna.Study:
    """Open or create the study; a journal file needs no database and suits a shared folder."""
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=settings.name,
        directions=["minimize" if REGISTRY[goal].better == "lower" else "maximize" for goal in settings.goals],
        load_if_exists=True,
    )
    study.sampler = _sampler(settings.search, len(study.trials))
    return study


def _sampler(search: Search, begun: int) -> optuna.samplers.BaseSampler:
    """Build the sampler; the seed moves with the trials, or a resumed search would draw the same ones again."""
    import optuna

    seed = search.seed + begun
    if search.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)
    return optuna.samplers.NSGAIISampler(seed=seed, population_size=8)


def ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the trials whose jobs came to an end, whatever end."""
    return [trial for trial in study.trials if JOB in trial.user_attrs and trial.state.is_finished()]


def abandon_killed(study: optuna.Study) -> None:
    """Close what a killed start left open, and try the same again first."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def tell(study: optuna.Study, trial: optuna.Trial, record: Mapping[str, Any], goals: Sequence[str]) -> None:
    """Tell Optuna what came of a trial.

    A job that screening stopped, or whose variant failed its gate, violates the constraint. What was not measured of
    it counts as the worst that any trial had, and nothing at all where there is none yet.
    """
    from optuna.trial import TrialState

    trial.set_user_attr(JOB, record["id"])
    if record["state"] in ("failed", "unsupported"):
        study.tell(trial, state=TrialState.FAIL)
        return
    variants = list(record["variants"].values())
    if len(variants) != 1:
        raise ConfigError(
            f"a trial built {len(variants)} variants", expected="one: choose one target, compression and precision"
        )
    good = variants[0]["verdict"] == "pass"
    trial.set_constraint("verdict", 0.0 if good else 1.0)
    values = [variants[0]["metrics"].get(goal) for goal in goals]
    missing = [goal for goal, value in zip(goals, values, strict=True) if value is None]
    if missing and good:
        raise ConfigError(f"{missing[0]} is not measured on this platform", next_step="leave it out of sweep.goals")
    if missing:
        values = _with_worst(study, values)
    if None in values:
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, values)


def _with_worst(study: optuna.Study, values: Sequence[float | None]) -> list[float | None]:
    from optuna.study import StudyDirection

    told = [trial.values for trial in study.trials if trial.values]
    worst = [max if direction == StudyDirection.MINIMIZE else min for direction in study.directions]
    return [
        value if value is not None or not told else worst[place](one[place] for one in told)
        for place, value in enumerate(values)
    ]
