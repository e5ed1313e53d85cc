"""The search on real Optuna: what it is told, that it resumes, and that a killed trial is tried again."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_choosing import DEFAULT

from stages.core.errors import ConfigError
from stages.sweeping import search, settings

VARIED = ("student=tiny,none", "x=range(1,9)", "y=interval(0.0,1.0)")


def sweep(**change):
    return settings.read(DEFAULT | {"search": DEFAULT["search"] | {"trials": 12, "batch": 2} | change})


def parsed(*overrides):
    return OverridesParser.create().parse_overrides(list(overrides))


def record(values, state="done", verdict="pass"):
    metrics = dict(zip(DEFAULT["goals"], values, strict=False))
    return {"id": "job", "state": state, "variants": {"v": {"metrics": metrics, "verdict": verdict}}}


class Jobs:
    """Answers trials; dies in the middle when told to."""

    def __init__(self, die_after=None):
        self.seen, self.die_after = [], die_after

    def __call__(self, batch):
        for overrides in batch:
            if self.die_after is not None and len(self.seen) >= self.die_after:
                raise KeyboardInterrupt
            self.seen.append(tuple(overrides))
        return [self.answer(dict(item.split("=") for item in overrides)) for overrides in batch]

    def answer(self, asked):
        x, y = int(asked["x"]), float(asked["y"])
        return record([x + y, 10.0 - x, 0.9 + (asked["student"] == "tiny") / 100])


@pytest.mark.parametrize("sampler", ["tpe", "nsga2"])
def test_a_killed_search_goes_on_and_tries_the_lost_trials_again(tmp_path, sampler):
    first = Jobs(die_after=5)
    with pytest.raises(KeyboardInterrupt):
        search.run(sweep(sampler=sampler), parsed(*VARIED, "fixed=1"), tmp_path, first)
    second = Jobs()
    search.run(sweep(sampler=sampler), parsed(*VARIED, "fixed=1"), tmp_path, second)
    study = search.open_study(tmp_path / search.JOURNAL, sweep(sampler=sampler))
    assert len(search.ended(study)) == 12
    assert second.seen[0] == first.seen[4]  # asked for when the first start died
    assert len(second.seen) == 12 - 4
    assert second.seen[1:4] != first.seen[:3], "a resumed search must not draw the same again"
    assert all(item[0] == "fixed=1" for item in first.seen + second.seen)
    assert [d.name for d in study.directions] == ["MINIMIZE", "MINIMIZE", "MAXIMIZE"]
    third = Jobs()
    search.run(sweep(sampler=sampler), parsed(*VARIED, "fixed=1"), tmp_path, third)
    assert not third.seen


def test_optuna_learns_of_failed_refused_and_unfinished_variants(tmp_path):
    study = search.open_study(tmp_path / search.JOURNAL, sweep())
    for told in (
        record([1.0, 5.0, 0.9]),
        record([], "failed"),
        record([2.0, 6.0, 0.8], verdict="fail"),
        {**record([]), "state": "stopped", "variants": {"v": {"metrics": {"size_bytes": 9.0}, "verdict": None}}},
    ):
        search.tell(study, study.ask(), told, DEFAULT["goals"])
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[3].values == [2.0, 9.0, 0.8]  # the worst so far stands for what was not measured
    assert [trial.number for trial in study.best_trials] == [0]


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        (record([1.0, 5.0]), "accuracy is not measured on this platform"),
        ({**record([1.0]), "variants": {}}, "a trial built 0 variants"),
    ],
)
def test_a_job_that_cannot_be_a_trial_ends_the_search_with_the_reason(tmp_path, told, complaint):
    study = search.open_study(tmp_path / search.JOURNAL, sweep())
    with pytest.raises(ConfigError, match=complaint):
        search.tell(study, study.ask(), told, DEFAULT["goals"])


@pytest.mark.parametrize(
    ("override", "complaint"), [("a=1", "nothing to search"), ("a=range(0.0,1.0,0.1)", "cannot vary")]
)
def test_what_optuna_cannot_vary_is_refused(tmp_path, override, complaint):
    with pytest.raises(ConfigError, match=complaint):
        search.run(sweep(), parsed(override), tmp_path, Jobs())


def test_a_range_leaves_its_end_out_as_hydra_does():
    (override,) = parsed("x=range(1,9,2)")
    found = search.distribution(override)
    assert (found.low, found.high, found.step) == (1, 7, 2)
