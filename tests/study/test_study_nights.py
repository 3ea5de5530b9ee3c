"""Nights of many policies that share the days before."""

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Training, UniformCycles
from daynight.study.nights import held_out, one_night
from daynight.testing import toy_network, toy_stream

SETTINGS = {
    "network": toy_network, "free_at_end": 0.5, "wake": Epochs(3), "night": Epochs(3), "usual": UniformCycles(2),
    "training": Training(batch_size=10),
}  # fmt: skip


def test_one_night_is_that_of_a_life_of_its_own():
    stream = toy_stream(3)
    shared = {
        (seed, day, policy.n): one_night(stream, seed=seed, day=day, policy=policy, **SETTINGS)
        for seed in (0, 1)
        for day in (0, 1, 2)
        for policy in (UniformCycles(1), UniformCycles(3))
    }
    for (seed, day, n), found in shared.items():
        agent = Agent(
            toy_network, capacity=Capacity(free_at_end=0.5, days=3), training=Training(batch_size=10), seed=seed
        )
        clock = Clock(agent, stream, policy=UniformCycles(2), wake=Epochs(3), night=Epochs(3))
        clock.run(until=day)
        clock.policy = UniformCycles(n)
        clock.run(until=day + 1)
        assert found["accuracy"] == clock.history.accuracy[day, day]
        assert (found["owned"], found["night_steps"]) == (agent.owned[day], 12)
    # A life that is past the day begins anew.
    assert one_night(stream, seed=1, day=0, policy=UniformCycles(1), **SETTINGS) == shared[1, 0, 1]
    assert one_night(stream, seed=1, day=0, policy=OneShot(), **SETTINGS)["night_steps"] == 12


def test_what_is_held_out_is_no_test_data():
    whole, held = toy_stream(3), held_out(toy_stream, 0.25)
    for before, after in zip(whole, held, strict=True):
        assert (len(after.train), len(after.test)) == (30, 10)
        known = {tuple(row) for row in before.train.inputs.tolist()}
        assert {tuple(row) for row in after.train.inputs.tolist()} < known
        assert {tuple(row) for row in after.test.load()[0].tolist()} <= known
        assert after.validation is None
