import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from daynight.data.splits import Split
from daynight.errors import DamagedFileError, DataError, SettingError, StateError
from daynight.networks import identify
from daynight.networks.identify import (
    LEVELS,
    N_COVARIANCES,
    N_MEANS,
    RANK,
    Answer,
    Signature,
    fit,
    probabilities,
    sketch,
)

N_FEATURES = 20


def examples(place, n=300, n_classes=2, n_features=N_FEATURES, seed=0):
    """Return a split of some classes around a place."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % n_classes
    centres = torch.randn(n_classes, n_features, generator=generator) + place
    inputs = centres[labels] + 0.5 * torch.randn(n, n_features, generator=generator)
    return Split(inputs, labels)


def some_signatures(places=(0.0, 3.0, 6.0)):
    found = []
    for seed, place in enumerate(places):
        found.append(fit(examples(place, seed=seed), examples(place, 100, seed=seed), found))
    return found


@pytest.fixture(scope="module")
def signatures():
    return some_signatures()


def test_inputs_are_told_apart_and_strange_ones_belong_to_none(signatures):
    for index, place in enumerate((0.0, 3.0, 6.0)):
        chances = probabilities(signatures, examples(place, seed=index).inputs)
        assert (chances.argmax(1) == index).double().mean() > 0.97
    strange = probabilities(signatures, examples(-30.0).inputs)
    assert bool((strange.argmax(1) == 3).all())


@pytest.mark.parametrize("n", [10, 49, 98, 99, 100, 250])
def test_few_validation_examples_limit_the_probability_of_none(n):
    found = probabilities([fit(examples(0.0), examples(0.0, n))], examples(-30.0).inputs)[:, -1]
    torch.testing.assert_close(found, torch.full_like(found, (n + 1) / (n + 101)), rtol=1e-12, atol=0)
    assert bool((found > 0.5 + 1e-12).all()) == (n >= 100)


def test_an_answer_has_the_outputs_of_its_own_tasks_only():
    outputs = {0: torch.rand(3, 2), 4: torch.rand(3, 5)}
    answer = Answer.of(outputs, torch.full((3, 3), 1 / 3, dtype=torch.float64))
    for index in (4, np.int64(4), torch.tensor(4)):
        assert torch.equal(answer.of_task(index), outputs[4])
    for task in (1, -1, 9, "a", None, True, 4.0):
        with pytest.raises(StateError, match=r"is not among the tasks of this answer, whose indices are \[0, 4\]"):
            answer.of_task(task)


@given(st.integers(0, 600), st.integers(0, 100), st.permutations(range(3)), st.floats(1e-3, 1e3))
@settings(max_examples=30)
def test_rows_sum_to_one_whatever_the_scale_and_the_order_of_tasks_changes_no_bit(n, seed, order, scale):
    signatures = some_signatures()
    inputs = scale * torch.randn(n, N_FEATURES, generator=torch.Generator().manual_seed(seed))
    chances = probabilities(signatures, inputs)
    assert chances.shape == (n, 4)
    assert chances.dtype == torch.float64
    assert bool((chances >= 0).all())
    torch.testing.assert_close(chances.sum(1), torch.ones(n, dtype=torch.float64), rtol=0, atol=1e-12)
    other = probabilities([signatures[index] for index in order], inputs)
    assert torch.equal(other, chances[:, [*order, 3]])


@given(st.lists(st.integers(1, 300), min_size=1, max_size=5))
@settings(max_examples=20)
def test_the_size_of_a_batch_changes_no_bit(sizes):
    signatures = some_signatures()
    inputs = examples(1.0, sum(sizes), seed=7).inputs
    parts = [probabilities(signatures, part) for part in inputs.split(sizes)]
    assert torch.equal(torch.cat(parts), probabilities(signatures, inputs))


def test_images_of_any_batch_have_equal_bits():
    images = torch.rand(300, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    signature = fit(Split(images, torch.arange(300) % 3))
    whole = probabilities([signature, signature], images)
    assert torch.equal(
        torch.cat([probabilities([signature, signature], image[None]) for image in images[:20]]), whole[:20]
    )
    assert torch.equal(whole[:, 0], whole[:, 1])


def test_the_density_is_that_of_a_mixture_of_gaussians(signatures):
    one, inputs = signatures[0], examples(0.5, 50).inputs.double()
    noise = one.noise[:, None]
    # The covariance is axes (variances - noise) axes.T + noise I.
    parts = torch.distributions.LowRankMultivariateNormal(
        one.means.double(), one.axes.double() * (one.variances - noise)[:, None].sqrt(), noise.expand(-1, N_FEATURES)
    )
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(one.weights), parts)
    torch.testing.assert_close(one.log_density(inputs), mixture.log_prob(inputs), rtol=1e-5, atol=1e-4)


def test_with_few_features_the_covariance_is_whole():
    split = examples(1000.0, 4000, n_classes=1, n_features=5)
    one = fit(split)
    covariance = one.axes[0].double() * one.variances[0] @ one.axes[0].double().T
    expected = torch.cov(split.inputs.double().T, correction=0)
    torch.testing.assert_close(covariance, expected, rtol=0, atol=2e-3 * float(expected.diagonal().mean()))
    torch.testing.assert_close(one.means[0], split.inputs.mean(0))


def test_examples_are_read_in_portions(monkeypatch):
    split, sizes = examples(2.0, 1000), []
    whole = fit(split)

    def counting(inputs):
        sizes.append(len(inputs))
        return sketch(inputs)

    monkeypatch.setattr(identify, "PORTION", 64)
    parts = fit(split, features=counting)
    assert max(sizes) == 64
    for name, tensor in whole.state().items():
        if name not in ("axes", "losses"):  # directions have no sign
            torch.testing.assert_close(parts.state()[name], tensor, rtol=1e-4, atol=1e-4)


def test_no_example_is_kept_and_bytes_do_not_grow_with_examples():
    few, many = fit(examples(0.0, 100)), fit(examples(0.0, 5000))
    assert few.n_bytes == many.n_bytes == sum(t.nbytes for t in few.state().values())
    digits = fit(Split(torch.rand(50, 1, 28, 28), torch.arange(50) % 2))
    assert digits.n_bytes < 36_000


def test_a_restored_signature_gives_the_same_bits(signatures):
    restored = [Signature.restore({name: t.clone() for name, t in one.state().items()}) for one in signatures]
    inputs = examples(2.0, 40).inputs
    assert torch.equal(probabilities(restored, inputs), probabilities(signatures, inputs))


@pytest.mark.parametrize("name", ["weights", "means", "axes", "variances", "noise", "levels", "losses", "n_examples"])
def test_a_damaged_signature_is_refused(signatures, name):
    state = signatures[0].state()
    with pytest.raises(DamagedFileError, match="a signature has the tensors"):
        Signature.restore({key: tensor for key, tensor in state.items() if key != name})
    with pytest.raises(DamagedFileError, match="signature"):
        Signature.restore(state | {name: state[name][None]})
    with pytest.raises(DamagedFileError, match="signature"):
        Signature.restore(state | {name: state[name].to(torch.float16)})
    if name != "n_examples":
        with pytest.raises(DamagedFileError, match="and finite"):
            Signature.restore(state | {name: state[name] * math.nan})


def test_a_signature_of_impossible_numbers_is_refused(signatures):
    state = signatures[0].state()
    for name in ("weights", "variances", "noise", "n_examples"):
        with pytest.raises(DamagedFileError, match=f"{name} of a signature must be above 0"):
            Signature.restore(state | {name: state[name] * 0})
    with pytest.raises(DamagedFileError, match="ascending"):
        Signature.restore(state | {"levels": state["levels"].flip(0)})
    with pytest.raises(DamagedFileError, match="noise"):
        Signature.restore(state | {"noise": state["noise"][:1].expand(3)})


@given(st.integers(1, 400), st.integers(0, 50))
@settings(max_examples=40)
def test_at_most_a_share_p_of_a_tasks_own_examples_has_a_tail_below_p(n, seed):
    split = examples(0.0, n, n_classes=1, seed=seed)
    one = fit(split)
    tails = one.tail(one.log_density(sketch(split.inputs)))
    assert bool(((tails > 0) & (tails <= 1)).all())
    ordered = one.log_density(sketch(split.inputs)).sort().values
    assert bool((one.tail(ordered).diff() >= 0).all())
    for p in (0.01, 0.05, 0.3):
        # Between two levels the number of examples is interpolated: it can be less than the true one by one example,
        # and by what lies between the levels.
        assert (tails <= p).double().mean() <= p + 0.1 + 1 / n
    assert float(one.tail(torch.tensor([-1e300], dtype=torch.float64))) == pytest.approx(1 / (1 + n))
    assert float(one.tail(torch.tensor([1e300], dtype=torch.float64))) == 1


def test_few_of_the_own_examples_are_taken_for_none():
    train, new = examples(0.0, 3000, seed=1), examples(0.0, 3000, seed=1)
    halves = torch.arange(3000) % 2 == 0
    index = torch.arange(3000)
    one = fit(train.subset(index[halves]), train.subset(index[~halves][:700]))
    is_none = probabilities([one], new.subset(index[~halves][700:]).inputs)[:, 1] > 0.5
    assert is_none.double().mean() < 0.03


def test_temperature_is_the_best_on_validation_data_of_all_tasks(signatures):
    temperature = identify.temperature_of(signatures)
    total = sum(one.losses for one in signatures)
    assert temperature == identify.TEMPERATURES[int(total.argmin())]
    assert torch.equal(signatures[0].losses, torch.zeros_like(signatures[0].losses))  # there was no other task
    twins = [signatures[0], fit(examples(0.0, seed=0), examples(0.0, 100, seed=0), signatures[:1])]
    assert float(twins[1].losses[0]) == pytest.approx(100 * math.log(2))


def test_many_classes_share_a_covariance_and_very_many_a_mean():
    some = fit(examples(0.0, 2000, n_classes=N_COVARIANCES + 1))
    assert some.means.shape == (N_COVARIANCES + 1, N_FEATURES)
    assert some.axes.shape == (1, N_FEATURES, RANK)
    within = (0.5**2) * N_FEATURES  # as `examples` draws them
    total = float(some.variances.sum() + (N_FEATURES - RANK) * some.noise.sum())
    assert total == pytest.approx(within, rel=0.1)
    split = examples(0.0, 2 * N_MEANS + 2, n_classes=N_MEANS + 1)
    assert fit(split).means.shape == (1, N_FEATURES)
    Signature.restore(some.state())


def test_regression_and_classes_without_examples():
    split = examples(0.0)
    assert fit(Split(split.inputs, torch.rand(300))).means.shape == (1, N_FEATURES)
    assert fit(Split(split.inputs, split.targets * 7)).means.shape == (2, N_FEATURES)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_class_of_few_examples_has_a_covariance(n):
    split = examples(0.0)
    lone = Split(torch.cat([split.inputs, split.inputs[:n] + 5]), torch.cat([split.targets, torch.full((n,), 2)]))
    one = Signature.restore(fit(lone).state())
    # A neighbour of the lone examples is not as good as impossible.
    assert float(one.tail(one.log_density(split.inputs[:1].double() + 5.1))) > 1e-3


def test_one_example_and_constant_inputs():
    for inputs in (torch.ones(1, 3), torch.ones(40, 300), torch.zeros(5, 2)):
        one = Signature.restore(fit(Split(inputs, torch.zeros(len(inputs), dtype=torch.int64))).state())
        assert bool(probabilities([one], inputs).isfinite().all())
        assert float(probabilities([one], inputs)[0, 0]) > float(probabilities([one], inputs + 1)[0, 0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e200])
def test_numbers_that_are_not_finite_belong_to_none(value):
    one = fit(examples(0.0), examples(0.0, 2000), features=sketch)
    inputs = torch.full((2, N_FEATURES), value, dtype=torch.float64)
    chances = probabilities([one, one], inputs)
    assert bool(chances.isfinite().all())
    assert float(chances[0, 2]) > 0.9


@pytest.mark.parametrize("scale", [1e39, 1e200, math.inf])
def test_features_that_are_too_large_are_refused(scale):
    with pytest.raises(DataError, match="Scale the inputs"):
        fit(examples(1.0), features=lambda inputs: inputs.double() * scale)


def test_features_of_other_widths_or_shapes_are_refused(signatures):
    narrow = examples(0.0, n_features=7)
    with pytest.raises(DataError, match="have 7 features"):
        fit(narrow, earlier=signatures)
    with pytest.raises(DataError, match="have 7 features"):
        probabilities(signatures, narrow.inputs)
    with pytest.raises(DataError, match="features must be a function"):
        fit(narrow, features=lambda inputs: inputs.sum())


def test_no_task_and_no_input(signatures):
    assert torch.equal(probabilities([], torch.zeros(2, 5)), torch.ones(2, 1, dtype=torch.float64))
    assert probabilities(signatures, torch.zeros(0, N_FEATURES)).shape == (0, 4)
    with pytest.raises(SettingError, match="none must be above 0"):
        probabilities(signatures, torch.zeros(1, N_FEATURES), none=0)


@given(st.integers(1, 2000), st.integers(1, 4))
@settings(max_examples=30)
def test_a_sketch_is_linear_row_by_row_and_keeps_short_inputs(n_values, n):
    inputs = torch.randn(n, n_values, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    found = sketch(inputs)
    assert found.shape == (n, min(n_values, identify.N_FEATURES))
    assert torch.equal(found[:1], sketch(inputs[:1]))
    torch.testing.assert_close(sketch(3 * inputs), 3 * found)
    if n_values <= identify.N_FEATURES:
        assert torch.equal(found, inputs)


def test_a_sketch_keeps_distances_in_expectation():
    inputs = torch.randn(400, 3000, generator=torch.Generator().manual_seed(0))
    ratio = sketch(inputs).square().sum() / inputs.double().square().sum()
    assert float(ratio) == pytest.approx(1, abs=0.02)
    # Each number of an input is in one feature alone, so the rows of the projection are orthogonal.
    rows = sketch(torch.eye(3000)[:500])
    assert bool((rows.count_nonzero(1) == 1).all())


def test_global_generators_stay_as_they_are(signatures):
    before = torch.get_rng_state()
    sketch(torch.rand(2, 1234))
    torch.set_rng_state(before)
    fit(examples(0.0))
    probabilities(signatures, torch.zeros(3, N_FEATURES))
    sketch(torch.zeros(2, 1235))
    assert torch.equal(torch.get_rng_state(), before)


def test_levels_go_from_the_lowest_to_the_highest():
    assert LEVELS[0] == 0
    assert LEVELS[-1] == 1
    assert list(LEVELS) == sorted(set(LEVELS))
