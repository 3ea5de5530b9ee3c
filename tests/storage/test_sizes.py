"""How large an agent is."""

import functools

import pytest
import torch

from daynight import Agent, Capacity, Clock, Epochs, Training, UniformCycles
from daynight.errors import StateError
from daynight.testing import toy_network, toy_stream


@pytest.mark.parametrize(
    ("optimizer", "n_states"),
    [(None, 2 * 146 + 6), (functools.partial(torch.optim.SGD, lr=0.1), 0),
     (functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9), 146)],
)  # fmt: skip
def test_sizes_are_counted_by_hand(optimizer, n_states):
    training = Training(batch_size=10) if optimizer is None else Training(batch_size=10, optimizer=optimizer)
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3), training=training)
    Clock(agent, toy_stream(3), policy=UniformCycles(1), wake=Epochs(1), night=Epochs(1)).run(until=2)
    weights, pruned, owners, now, private, heads, states = agent.sizes()
    assert pruned.n_numbers == 0
    assert (weights.n_numbers, weights.n_bytes, weights.n_least_bits) == (6 * 8 + 8 * 8, 4 * 112, 32)
    assert (owners.n_numbers, owners.n_bytes, owners.n_least_bits, owners.n_least_bytes) == (112, 2 * 112, 2, 28)
    assert 112 / 8 <= owners.n_coded_bytes <= 28 + 8
    assert weights.n_coded_bytes is None
    assert (now.n_numbers, private.n_numbers) == (16, 2 * 16)
    assert heads.n_numbers == 2 * (8 + 1) * 2
    assert states.n_numbers == n_states  # of 112 weights, 16 biases and 18 numbers of the head


def test_sizes_before_the_first_day():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3))
    sizes = {size.part: size for size in agent.sizes()}
    assert sizes["heads of finished tasks"].n_numbers == 0
    assert sizes["heads of finished tasks"].n_least_bytes == 0
    assert sizes["owner maps"].n_least_bits == 1


def test_what_is_kept_of_pruned_weights_counts():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3), restart="keep")
    Clock(agent, toy_stream(3), policy=UniformCycles(1), wake=Epochs(1), night=Epochs(1)).run(until=1)
    assert agent.sizes()[1].n_numbers == 112


def test_sizes_are_told_between_days():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3))
    agent.wake(toy_stream(3)[0], Epochs(1))
    with pytest.raises(StateError, match=r"sizes: day 0 has begun\. Call finish_night"):
        agent.sizes()
