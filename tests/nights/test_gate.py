"""The gate: which new versions it accepts, and which it refuses, and why."""

import functools
import math

import attrs
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from daynight import metrics
from daynight.errors import DataError, SettingError
from daynight.nights.gate import Gate


def rights(n, old, new, agree=0.5, seed=0):
    """Return on which of `n` examples two versions are right, which are right at the rates `old` and `new`.

    With probability `agree`, they are right on the easier examples together.
    """
    draws = torch.rand(3, n, generator=torch.Generator().manual_seed(seed))
    other = torch.where(draws[2] < agree, draws[0], draws[1])
    return draws[0] < old, other < new


def ranking(outputs, targets):
    """The area under the ROC curve, of outputs (n, 1) and labels 0 and 1."""
    ones, zeros = outputs[targets == 1, 0], outputs[targets == 0, 0]
    return (ones[:, None] > zeros).double().mean()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n", [50, 200, 2000])
@pytest.mark.parametrize("rate", [0.6, 0.9, 0.99])
def test_a_version_as_good_as_the_old_one_is_accepted(n, rate):
    lives = [Gate(tolerance=0).compare(*rights(n, rate, rate, seed=seed)) for seed in range(1000)]
    # At most 2.5 % are refused; the limit is three standard errors above it.
    assert sum(not verdict.accepted for verdict in lives) <= 40


def test_a_poisoned_day_and_one_of_twenty_examples_are_refused_and_honest_ones_accepted():
    gate = Gate(tolerance=0.01)
    poisoned = [gate.compare(*rights(180, 0.9, 0.5, seed=seed)) for seed in range(100)]
    assert not any(verdict.accepted for verdict in poisoned)
    assert "worse by more than 0.01" in poisoned[0].reason
    small = [gate.compare(*rights(20, 0.9, new, seed=seed)) for new in (0.5, 0.99) for seed in range(100)]
    assert not any(verdict.accepted for verdict in small)
    assert small[0].reason == "too few held-out examples of the day: 20, and the gate needs 50 or more"
    honest = [gate.compare(*rights(180, 0.9, 0.905, seed=seed)) for seed in range(100)]
    assert sum(verdict.accepted for verdict in honest) >= 95


@pytest.mark.parametrize("n", [50, 500])
@pytest.mark.parametrize("old", [0.55, 0.97])
def test_a_strict_gate_accepts_no_version_that_is_worse_than_it_may_be(n, old):
    gate = Gate(tolerance=0.02, strict=True)
    lives = [gate.compare(*rights(n, old, old - 0.02, seed=seed)) for seed in range(1000)]
    assert sum(verdict.accepted for verdict in lives) <= 40
    assert "too few held-out examples to tell" in lives[0].reason
    better = [gate.compare(*rights(n, old, old + 0.03, seed=seed)).accepted for seed in range(200)]
    assert sum(better) > 5


@pytest.mark.parametrize(("n", "old", "new"), [(50, 0.95, 0.9), (50, 0.5, 0.5), (400, 0.9, 0.93), (200, 0.995, 0.995)])
def test_intervals_of_accuracy_cover_the_difference(n, old, new):
    gate = Gate(tolerance=0, confidence=0.9)
    lives = [gate.compare(*rights(n, old, new, seed=seed)) for seed in range(1000)]
    covered = np.mean([verdict.low <= new - old <= verdict.high for verdict in lives])
    assert covered >= 0.9 - 3 * math.sqrt(0.09 / 1000)


def test_intervals_of_losses_are_those_of_scipy_and_the_lower_loss_is_better():
    old = torch.rand(80, generator=generator(1), dtype=torch.float64)
    new = old + 0.1 * torch.randn(80, generator=generator(2), dtype=torch.float64) + 0.1
    verdict = Gate(tolerance=0.01, better="lower").compare(old, new)
    expected = stats.ttest_rel(new.numpy(), old.numpy()).confidence_interval(0.95)
    assert (verdict.low, verdict.high) == pytest.approx((expected.low, expected.high))
    assert verdict.difference == pytest.approx(float((new - old).mean()))
    assert not verdict.accepted
    assert Gate(tolerance=0.01, better="higher").compare(old, new).accepted
    assert Gate(tolerance=0.01, better="lower").compare(new, old).accepted
    same = Gate(tolerance=0, better="lower", strict=True).compare(old, old)
    assert (same.accepted, same.low, same.high) == (True, 0, 0)


def test_examples_of_past_days_do_not_make_a_small_day_larger():
    gate, (old, new) = Gate(tolerance=0.01), rights(520, 0.9, 0.95)
    assert gate.compare(old, new).accepted
    assert gate.compare(old, new, n_today=50).accepted
    outputs, targets = [torch.stack([~right, right], 1).float() for right in (old, new)], torch.ones(520).long()
    for verdict in (
        gate.compare(old, new, n_today=20),
        gate.judge(metrics.accuracy, *outputs, targets, generator(), n_today=20),
        gate.judge(functools.partial(metrics.accuracy), *outputs, targets, generator(), n_today=20),
    ):
        assert not verdict.accepted
        assert verdict.n == 520
        assert verdict.reason == "too few held-out examples of the day: 20, and the gate needs 50 or more"
    with pytest.raises(SettingError, match="Gate: n_today must be at most 520"):
        gate.compare(old, new, n_today=521)


def test_versions_that_are_right_on_the_same_examples_are_not_known_to_be_equal():
    right = torch.arange(60) % 2 == 0
    verdict = Gate(tolerance=0.01).compare(right, right)
    assert verdict.accepted
    assert -0.05 < verdict.low < -0.01 < 0.01 < verdict.high < 0.05
    assert not Gate(tolerance=0.01, strict=True).compare(right, right).accepted


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=80),
    st.floats(0, 0.3),
    st.booleans(),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_the_verdict_follows_from_the_interval(pairs, tolerance, strict, confidence):
    old, new = torch.tensor(pairs).T
    gate = Gate(tolerance=tolerance, strict=strict, confidence=confidence, least=10)
    verdict = gate.compare(old, new)
    assert -1 <= verdict.low <= verdict.high <= 1
    expected = verdict.n >= 10 and (verdict.low if strict else verdict.high) >= -tolerance
    assert verdict.accepted == expected
    mirrored = attrs.evolve(gate, better="lower").compare(~old, ~new)
    assert mirrored.accepted == expected
    assert (mirrored.low, mirrored.high) == pytest.approx((-verdict.high, -verdict.low))
    order = torch.randperm(len(pairs), generator=generator())
    assert gate.compare(old[order], new[order]) == verdict


def test_accuracy_is_compared_example_by_example():
    targets = torch.arange(90) % 3
    old, new = torch.randn(90, 3, generator=generator(1)), torch.randn(90, 5, generator=generator(2))
    gate = Gate(tolerance=0.1)
    verdict = gate.judge(metrics.accuracy, old, new, targets, generator())
    assert verdict == gate.compare(old.argmax(1) == targets, new.argmax(1) == targets)
    assert verdict.difference == pytest.approx(metrics.accuracy(new, targets) - metrics.accuracy(old, targets))


def rated(n, shift, seed):
    """Return labels, of which one in eight is 1, and outputs of two versions; the second is less good."""
    draw = generator(seed)
    labels = (torch.arange(n) % 8 == 0).long()
    common = torch.randn(n, 1, generator=draw)
    old, new = (common + 0.5 * torch.randn(n, 1, generator=draw) for _ in range(2))
    return labels, old + 1.5 * labels[:, None], new + (1.5 - shift) * labels[:, None]


def test_a_metric_of_all_examples_is_resampled_in_pairs(monkeypatch):
    monkeypatch.setattr("daynight.nights.gate.N_RESAMPLES", 100)
    gate, verdicts = Gate(tolerance=0.01), {}
    for shift in (0.0, 1.5):
        lives = [rated(160, shift, seed) for seed in range(100)]
        verdicts[shift] = [
            gate.judge(ranking, old, new, labels, generator(seed)) for seed, (labels, old, new) in enumerate(lives)
        ]
        labels, old, new = lives[0]
        assert verdicts[shift][0].difference == pytest.approx(ranking(new, labels) - ranking(old, labels))
        assert gate.judge(ranking, old, new, labels, generator(0)) == verdicts[shift][0]
    assert sum(verdict.accepted for verdict in verdicts[0.0]) >= 95
    assert not any(verdict.accepted for verdict in verdicts[1.5])
    assert np.mean([verdict.low <= 0 <= verdict.high for verdict in verdicts[0.0]]) >= 0.85


def answered(n, rate, seed, n_classes=10):
    """Return the labels and the outputs of a version that is right at a rate."""
    draw = generator(seed)
    labels, others = torch.randint(n_classes, (2, n), generator=draw)
    said = torch.where(torch.rand(n, generator=draw) < rate, labels, others)
    return labels, torch.nn.functional.one_hot(said, n_classes).double()


def a_day(today, past, n_today=60, n_past=120, seed=0, shuffled=False):
    """Return (outputs, outputs, labels): versions that are equally good, at other rates on the day and on past days."""
    days = answered(n_today, today, 2 * seed), answered(n_past, past, 2 * seed + 1)
    labels, outputs = (torch.cat(parts) for parts in zip(*days, strict=True))
    if shuffled:
        labels[:n_today] = labels[:n_today][torch.randperm(n_today, generator=generator(seed))]
    return outputs, outputs, labels


def log_loss(outputs, targets):
    return torch.nn.functional.cross_entropy(5 * outputs, targets)


@pytest.mark.parametrize(("metric", "better"), [(metrics.accuracy, "higher"), (log_loss, "lower")])
def test_a_day_whose_labels_have_nothing_to_do_with_its_inputs_is_refused(metric, better, monkeypatch):
    monkeypatch.setattr("daynight.nights.gate.N_RESAMPLES", 100)
    gate = Gate(tolerance=0.02, better=better)

    def lives(*rates, **settings):
        days = [a_day(*rates, seed=seed, **settings) for seed in range(40)]
        return [gate.judge(metric, *day, generator(), n_today=60) for day in days]

    wrong = lives(0.8, 0.8, shuffled=True)
    assert sum(verdict.accepted for verdict in wrong) <= 2  # of 40, each with probability 1 / 101
    assert wrong[0].reason.startswith("the targets of the day have nothing to do with its inputs: on its 60 held-out")
    assert sum(verdict.accepted for verdict in lives(0.8, 0.8)) >= 38
    assert sum(verdict.accepted for verdict in lives(0.4, 0.8)) >= 38  # a harder day
    assert sum(verdict.accepted for verdict in lives(0.0, 0.0)) >= 38  # what nobody can learn is no worse than before
    # Without past days, there is nothing to compare with.
    assert gate.judge(metric, *a_day(0.8, 0.8, shuffled=True), generator(), n_today=180).accepted


@pytest.mark.parametrize("n_past", [60, 600])
def test_a_day_with_one_label_only_is_refused_unless_it_is_new_or_usual(n_past):
    gate, always = Gate(tolerance=0.02), {}
    labels = a_day(0.8, 0.8, n_past=n_past)[2]
    for name, label, past in (("known", 1, labels), ("new", 1, labels % 1), ("usual", 0, labels // 9 * 9 % 9)):
        targets = past.clone()
        targets[:60] = label
        right = torch.nn.functional.one_hot(targets, 10).double()
        always[name] = gate.judge(metrics.accuracy, right, right, targets, generator(), n_today=60)
    assert not always["known"].accepted
    assert "all 60 held-out examples of the day have the same target (1), which " in always["known"].reason
    assert always["new"].accepted
    assert always["usual"].accepted
    values = torch.cat([torch.full((60, 1), 0.3), torch.randn(n_past, 1, generator=generator())])
    broken = Gate(tolerance=0.02).judge(metrics.r_squared, values, values, values, generator(), n_today=60)
    assert "have the same target" in broken.reason


def test_a_metric_that_cannot_measure_the_day_alone_is_no_obstacle():
    labels = torch.arange(180) % 2
    outputs = labels[:, None] + 0.1 * torch.randn(180, 1, generator=generator())
    outputs[:60] = 2

    def area(outputs, targets):
        if len(targets) == 60:
            raise ValueError("too few")
        return ranking(outputs, targets)

    assert Gate(tolerance=0.1).judge(area, outputs, outputs, labels, generator(), n_today=60).accepted


def test_the_bootstrap_agrees_with_the_interval_of_a_mean():
    targets = torch.randn(300, 1, generator=generator(1))
    old, new = (targets + s * torch.randn(300, 1, generator=generator(2 + s)) for s in (1, 2))
    gate = Gate(tolerance=0.01, better="lower")
    found = gate.judge(metrics.mean_squared_error, old, new, targets, generator())
    expected = gate.compare(*((outputs - targets).square()[:, 0] for outputs in (old, new)))
    assert found.difference == pytest.approx(expected.difference, rel=1e-5)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=0.1)
    assert not found.accepted
    assert found.difference > 0
    assert not Gate(tolerance=0.01).judge(metrics.r_squared, old, new, targets, generator()).accepted


def test_no_class_is_missing_in_a_resample():
    labels = torch.zeros(60, dtype=torch.int64)
    labels[:1] = 1  # without it, there is no area under the curve
    outputs = torch.randn(60, 1, generator=generator())
    assert math.isfinite(Gate(tolerance=0.1).judge(ranking, outputs, outputs + 1, labels, generator()).low)


def test_what_cannot_be_compared_is_refused():
    gate, ones = Gate(tolerance=0.1), torch.ones(60)
    with pytest.raises(DataError, match=r"one shape \(n,\), not \(60,\) and \(59,\)"):
        gate.compare(ones, ones[1:])
    with pytest.raises(DataError, match=r"one shape \(n,\)"):
        gate.compare(ones[:, None], ones[:, None])
    with pytest.raises(DataError, match="not all finite"):
        gate.compare(ones, torch.full((60,), torch.nan))
    outputs = ones[:, None]
    with pytest.raises(DataError, match="60 and 59 outputs for 60 targets"):
        gate.judge(ranking, outputs, outputs[1:], ones.long(), generator())
    undefined = gate.judge(lambda *_: math.nan, outputs, outputs, ones.long(), generator())
    assert not undefined.accepted
    assert undefined.reason == "the metric is not finite on all resamples of the 60 held-out examples"
    with pytest.raises(DataError, match=r"metric fails on a resample.*ZeroDivisionError"):
        gate.judge(lambda *_: 1 / 0, outputs, outputs, ones.long(), generator())
    for n in (0, 1):
        for verdict in (
            gate.compare(ones[:n], ones[:n]),
            gate.judge(metrics.r_squared, outputs[:n], outputs[:n], outputs[:n], generator()),
        ):
            assert not verdict.accepted
            assert math.isnan(verdict.low)
            assert f"too few held-out examples of the day: {n}" in verdict.reason


@pytest.mark.parametrize(
    "wrong",
    [{"tolerance": -1}, {"confidence": 1}, {"confidence": 0}, {"least": 1}, {"better": "more"}, {"strict": 1}],
)
def test_settings_are_checked(wrong):
    with pytest.raises(SettingError, match=f"Gate: {next(iter(wrong))}"):
        Gate(**{"tolerance": 0.1, **wrong})
