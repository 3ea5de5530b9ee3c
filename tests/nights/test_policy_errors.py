"""Policies with state in their classes or with a long repr, and what makes a policy react."""

import pytest
import torch

import daynight as dn
from daynight.errors import PolicyError, ReactivePolicyError
from daynight.testing import check_policy, toy_network, toy_stream


class Plain(dn.SleepPolicy):
    """Keeps the rules."""

    def cycles(self, night):
        yield dn.Cycle(keep="dawn", length=night.left)


class Overspends(dn.SleepPolicy):
    def cycles(self, night):
        yield dn.Cycle(keep="dawn", length=1.2)


class InItsClass(Plain):
    data = torch.zeros(2, 3)


class Below(InItsClass):
    pass


class Network(Plain):
    _network = toy_network()


@pytest.mark.parametrize(
    ("kind", "what"),
    [(InItsClass, "InItsClass.data is a Tensor"), (Below, "InItsClass.data is a Tensor"),
     (Network, "Network._network is a MLP")],
)  # fmt: skip
def test_data_of_the_class_is_found(kind, what):
    with pytest.raises(PolicyError, match=f"holds data: {what}"):
        check_policy(kind())


class Counts(Plain):
    _seen: list = []  # noqa: RUF012

    def cycles(self, night):
        self._seen.append(night.day)
        yield from super().cycles(night)


def test_state_of_the_class_is_found():
    with pytest.raises(PolicyError, match=r"keeps state between nights, .* Changed attributes: Counts\._seen\."):
        check_policy(Counts())


class Quiet(dn.SleepPolicy):
    """Reads what is measured, but not by `loss` or `score`."""

    def cycles(self, night):
        yield from dn.UniformCycles(4 if night.measured is None else 1).cycles(night)


def test_what_is_measured_makes_a_policy_one_that_reacts():
    agent = dn.Agent(toy_network, capacity=dn.Capacity(free_at_end=0.5, days=2))
    with pytest.raises(ReactivePolicyError, match=r"has no plan beforehand\. agent\.sleep and Clock ask"):
        Quiet().plan(agent.night(toy_stream(2)[0], dn.Steps(8)))
    records = []
    agent.wake(toy_stream(2)[0], dn.Steps(3))
    agent.sleep(Quiet(), dn.Steps(8), records.append)
    assert [getattr(event, "kind", "") for event in records].count("prune") == 1
    check_policy(Quiet())


class Tuples(Plain):
    def plan(self, night):
        return (("dawn", 1.0),)


class Long(Overspends):
    def __init__(self):
        self.numbers = list(range(10_000))


class Unprintable(Overspends):
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Tuples, r"Tuples\(\): plan\(\) must return a tuple of Cycle, not \(\('dawn', 1.0\),\)"),
        (Long, r"Long\(numbers=\[0, 1, .{200,300}\.\.\. on day 0, cycle 0: overspends"),
        (Unprintable, "Unprintable on day 0, cycle 0: overspends"),
    ],
)
def test_errors_are_short_and_name_the_policy(kind, message):
    with pytest.raises(PolicyError, match=message) as caught:
        check_policy(kind())
    assert len(str(caught.value)) < 1000
