import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daynight.errors import TrainingError
from daynight.pruning import keep_top, keep_top_globally, keep_top_per_layer

scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=60)


@given(scores, st.data())
def test_keep_top_is_exact_and_ties_go_to_the_first(values, data):
    candidates = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    k = data.draw(st.integers(0, sum(candidates)))
    kept = keep_top(torch.tensor(values), torch.tensor(candidates), k)
    order = sorted((i for i, c in enumerate(candidates) if c), key=lambda i: (-values[i], i))
    assert sorted(torch.nonzero(kept)[:, 0].tolist()) == sorted(order[:k])


def test_keep_top_by_hand():
    kept = keep_top(torch.tensor([3.0, 1.0, 2.0, 2.0, 2.0]), torch.tensor([False, True, True, True, True]), 2)
    assert kept.tolist() == [False, False, True, True, False]


def test_keep_top_in_channels_last_is_that_in_contiguous():
    weight = torch.randint(0, 3, (8, 4, 3, 3)).float()
    candidates = torch.rand(8, 4, 3, 3) > 0.3
    kept = keep_top(weight, candidates, 60)
    last = torch.channels_last
    assert torch.equal(keep_top(weight.to(memory_format=last), candidates.to(memory_format=last), 60), kept)
    assert int(kept.sum()) == 60


def test_keep_top_refuses_scores_that_are_no_numbers():
    with pytest.raises(TrainingError, match=r"weights to be ranked are not a number\. Lower the learning rate"):
        keep_top(torch.tensor([1.0, torch.nan]), torch.tensor([True, True]), 1)


def test_per_layer_and_global_rankings_by_hand():
    layers = {"a": torch.tensor([9.0, 8.0, 7.0]), "b": torch.tensor([[1.0, 6.0]])}
    free = {"a": torch.tensor([True, False, True]), "b": torch.tensor([[True, True]])}
    per_layer = keep_top_per_layer(layers, free, {"a": 1, "b": 1})
    assert per_layer["a"].tolist() == [True, False, False]
    assert per_layer["b"].tolist() == [[False, True]]
    together = keep_top_globally(layers, free, 2)
    assert together["a"].tolist() == [True, False, True]
    assert together["b"].tolist() == [[False, False]]
    floored = keep_top_globally(layers, free, 2, min_per_layer=1)
    assert floored["a"].tolist() == [True, False, False]
    assert floored["b"].tolist() == [[False, True]]


@given(st.lists(scores, min_size=1, max_size=4), st.integers(0, 3), st.data())
def test_global_ranking_is_exact_in_total(layers, floor, data):
    tensors = {str(i): torch.tensor(values) for i, values in enumerate(layers)}
    free = {name: torch.ones(len(values), dtype=torch.bool) for name, values in tensors.items()}
    least = sum(min(floor, len(values)) for values in layers)
    k = data.draw(st.integers(least, sum(map(len, layers))))
    kept = keep_top_globally(tensors, free, k, floor)
    assert sum(int(mask.sum()) for mask in kept.values()) == k
    assert all(int(mask.sum()) >= min(floor, mask.numel()) for mask in kept.values())
