import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from daynight.storage.huffman import n_bits, n_coded_bytes


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([], 0), ([7], 7), ([3, 9], 12), ([1, 1, 2], 6), ([45, 13, 12, 16, 9, 5], 224), ([1] * 8, 24)],
)
def test_a_code_is_as_short_as_known_ones(counts, expected):
    assert n_bits(counts) == expected


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=40))
def test_a_code_is_within_a_bit_of_the_entropy(counts):
    total = sum(counts)
    entropy = -sum(n * math.log2(n / total) for n in counts)
    assert entropy - 1e-6 <= n_bits(counts) < entropy + total


def test_maps_without_owners_take_next_to_nothing_and_others_little_more_than_they_must():
    assert n_coded_bytes([]) == n_coded_bytes([torch.empty(0, dtype=torch.int16)]) == 0
    assert n_coded_bytes([torch.full((100, 80), -1, dtype=torch.int16)]) <= 8000 / 8 / 8 + 8
    drawn = torch.randint(-1, 7, (80_000,), generator=torch.Generator().manual_seed(0)).short()
    entropy = 3 * 10_000  # eight kinds
    assert entropy <= n_coded_bytes([drawn[:50_000].view(500, 100), drawn[50_000:]]) <= 1.02 * entropy
    free = torch.where(torch.rand(80_000, generator=torch.Generator().manual_seed(1)) < 0.95, -1, drawn)
    entropy = -(0.95625 * math.log2(0.95625) + 7 * 0.00625 * math.log2(0.00625)) * 10_000
    assert 0.95 * entropy < n_coded_bytes([free]) < 1.1 * entropy


@given(st.lists(st.integers(-1, 4), max_size=60))
def test_layers_are_coded_together(owners):
    whole = torch.tensor(owners, dtype=torch.int16)
    assert n_coded_bytes([whole]) == n_coded_bytes([whole[:7], whole[7:]])
