"""Optimizers that train at other weights than those to use, and have modes for the two."""

import pytest
import torch
from optimizer_kinds import ScheduleFree, examples, night_network, plain, trained, two_rates
from resumable import clock, outcome
from torch.nn import functional

from daynight import Epochs, OneShot, Training, UniformCycles
from daynight.history import Progress, Record
from daynight.training.optimizer import Optimization


def test_steps_with_modes_are_those_of_a_plain_loop():
    network = night_network()
    before = {name: weight.detach().clone() for name, weight in network.weights.items()}
    held, expected = network.held(), plain(network, ScheduleFree, 9, mode="train")
    found = dict(trained(network, ScheduleFree, 9, "auto").named_parameters())
    for name, value in expected.named_parameters():
        torch.testing.assert_close(found[name], value, msg=name)
    for name, weight in network.weights.items():
        assert torch.equal(weight[~held[name]], before[name][~held[name]])


def test_looking_at_a_network_does_not_change_how_an_optimizer_with_modes_trains_it():
    whole, watched = night_network(), night_network()
    ends = []
    for network, looks in ((whole, False), (watched, True)):
        optimization = Optimization(network, Training(optimizer=ScheduleFree), functional.cross_entropy, 9)
        for _ in range(9):
            optimization.step(*examples())
            if looks:
                optimization.flush()
                optimization.flush()
        optimization.flush()
        ends.append(network.module.state_dict())
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())


def minus_loss(outputs, targets):
    return -float(functional.cross_entropy(outputs.detach(), targets))


@pytest.mark.parametrize("is_part", [False, True], ids=["alone", "a part"])
def test_dusk_prune_and_dawn_are_at_the_weights_of_evaluation_mode(is_part):
    made, modes = [], []

    def make(parameters):
        made.append(ScheduleFree(parameters[:-1] if is_part else parameters))
        return [made[-1], torch.optim.SGD(parameters[-1:], lr=0.1)] if is_part else made[-1]

    def note(event):
        if isinstance(event, Record):
            modes.append(made[-1].param_groups[0]["is_training"])

    run = clock(hook=note, training={"optimizer": make, "metric": minus_loss}, policy=OneShot(), wake=Epochs(8))
    run.to_dusk()
    made[-1].eval()  # does nothing: it is in evaluation mode
    network, (inputs, targets) = run.agent.network, run.stream[0].test.load()
    weights = {name: weight.detach().clone() for name, weight in network.weights.items()}
    dusk = float(run.history.scores("dusk")[0, 0])
    assert dusk == pytest.approx(minus_loss(network.module.eval()(inputs), targets))
    made[-1].train()
    assert abs(dusk - minus_loss(network.module(inputs), targets)) > 1e-3
    made[-1].eval()
    for name, weight in network.weights.items():
        weight.data.copy_(weights[name])
    n_made = len(made)
    run.run(until=1)
    assert len(made) > n_made
    owned = network.owners["body.1"] == 0
    size = weights["body.1"].abs()
    assert size[owned].min() >= size[~owned].max()
    assert not any(modes)
    before = run.agent.predict(inputs, 0)
    made[-1].eval()
    assert torch.equal(run.agent.predict(inputs, 0), before)
    dawn = float(run.history.scores("dawn")[0, 0])
    assert dawn == pytest.approx(minus_loss(before, targets), rel=1e-5)
    run.agent.verify()


@pytest.mark.usefixtures("at_every_step")
def test_predictions_within_a_phase_are_at_the_weights_of_evaluation_mode():
    made, found = [], []

    def make(parameters):
        made.append(ScheduleFree(parameters))
        return made[-1]

    def look(event):
        if isinstance(event, Progress) and (event.day, event.phase) == (0, "wake") and event.step:
            predicted = run.agent.predict(inputs, 0)
            state = {id(p): s for p, s in made[-1].state.items()}
            modes.append(made[-1].param_groups[0]["is_training"])
            # Back to y and z by hand: x = (y - (1 - beta) z) / beta.
            named = dict(run.agent.network.module.named_parameters())
            xs = {name: p.detach().clone() for name, p in named.items()}
            made[-1].train()
            by_hand = {name: (p.detach() - 0.1 * state[id(p)]["z"]) / 0.9 for name, p in named.items()}
            made[-1].eval()
            for name, p in named.items():
                p.data.copy_(xs[name])
                torch.testing.assert_close(by_hand[name], xs[name])
            found.append(torch.equal(run.agent.predict(inputs, 0), predicted))

    modes = []
    run = clock(hook=look, training={"optimizer": make})
    inputs = run.stream[0].test.load()[0]
    run.run()
    assert found == [True] * 4
    assert not any(modes)
    unwatched = clock(training={"optimizer": ScheduleFree})
    unwatched.run()
    assert outcome(run)[1] == outcome(unwatched)[1]


@pytest.mark.parametrize("carries", [False, True])
def test_an_optimizer_with_modes_gives_no_value_to_what_was_pruned(carries):
    run = clock(training={"optimizer": ScheduleFree, "carry_optimizer": carries}, policy=UniformCycles(4), days=3)
    for _ in range(3):
        run.step()
        run.agent.verify()
    # Weights of no task are redrawn or zero at dawn, as with any other optimizer.
    usual = clock(training={"optimizer": two_rates}, policy=UniformCycles(4), days=3)
    usual.run()
    assert run.agent.n_free == usual.agent.n_free
