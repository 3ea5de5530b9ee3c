import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from daynight.errors import NetworkError, SettingError
from daynight.networks.masked import FREE, MaskedNetwork
from daynight.training.preflight import probe


def mlp(n_hidden=5):
    return nn.Sequential(nn.Linear(4, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 3))


def keep_first(network, k):
    """Keep the first k weights of each layer that the task of the day holds."""
    masks = {}
    for name, held in network.held().items():
        order = held.flatten().cumsum(0).reshape(held.shape)
        masks[name] = held & (order <= k)
    return masks


def live_a_day(network, n_outputs=2, k=3, shift=1.0):
    """Begin a day, move what may move, prune and end it."""
    network.begin_day(n_outputs)
    with torch.no_grad():
        for item in network.trainables():
            item.parameter.add_(shift if item.mask is None else shift * item.mask)
    network.release(keep_first(network, k))
    network.end_day()


def outputs(network, task, inputs):
    with network.viewing(task) as compute:
        return compute(inputs)


def test_tied_weights_are_counted_once_and_see_one_mask():
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.Linear(4, 2))
    module[2].weight = module[0].weight
    network = MaskedNetwork(module)
    assert network.sizes == {"0": 16}
    torch.manual_seed(0)
    live_a_day(network)
    inputs = torch.rand(2, 4)
    weight, head = network.visible("0", 0), network.module[3]
    expected = head(torch.relu(inputs @ weight.T) @ weight.T)
    assert torch.allclose(outputs(network, 0, inputs), expected)


def test_the_callers_module_stays_as_it_is():
    module = mlp()
    before = copy.deepcopy(module.state_dict())
    network = MaskedNetwork(module)
    live_a_day(network)
    live_a_day(network, n_outputs=7)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module[2].out_features == 3


def test_a_day_claims_what_is_free_and_keeps_what_survives():
    network = MaskedNetwork(mlp())
    network.begin_day(2)
    assert network.count(0) == {"0": 20}
    network.release(keep_first(network, 3))
    assert (network.count(0), network.count(FREE)) == ({"0": 3}, {"0": 17})
    network.end_day()
    network.begin_day(2)
    assert (network.count(0), network.count(1), network.count(FREE)) == ({"0": 3}, {"0": 17}, {"0": 0})


def test_pruned_weights_are_zero_at_once_and_until_the_next_wake():
    network = MaskedNetwork(mlp())
    live_a_day(network)
    weight, free = network.weights["0"], network.owners["0"] == FREE
    assert int(free.sum()) == 17
    assert not weight[free].any()
    network.begin_day(2)
    assert not weight[free].any()


@pytest.mark.parametrize("restart", ["redraw", "keep"])
def test_restart_sets_free_weights_alone(restart):
    torch.manual_seed(0)
    network = MaskedNetwork(mlp(), restart=restart)
    network.begin_day(2)
    before = network.weights["0"].detach().clone()
    network.release(keep_first(network, 3))
    network.end_day()
    free = network.owners["0"] == FREE
    network.begin_day(2)
    after = network.weights["0"].detach()
    assert torch.equal(after[~free], before[~free])
    assert bool(after[free].all())
    assert torch.equal(after[free], before[free]) == (restart == "keep")
    assert float(after.abs().max()) <= 0.5  # nn.Linear draws within 1 / sqrt(4 inputs)


def test_task_sees_its_own_and_earlier_weights_alone():
    network = MaskedNetwork(nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2)))
    with torch.no_grad():
        network.weights["0"].copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    for _ in range(3):
        live_a_day(network, k=1, shift=10.0)
    # Task 0 owns the first weight (1 + 10); later ones start from zero, each in the place after it.
    assert network.visible("0", 0).tolist() == [[11.0, 0.0], [0.0, 0.0]]
    assert network.visible("0", 1).tolist() == [[11.0, 10.0], [0.0, 0.0]]
    assert network.visible("0", 2).tolist() == [[11.0, 10.0], [10.0, 0.0]]


def test_looking_at_an_old_task_changes_nothing():
    network = MaskedNetwork(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3)))
    live_a_day(network)
    network.begin_day(4)
    network.module.train()
    before = copy.deepcopy(network.module.state_dict())
    head = network.module[3]
    assert outputs(network, 0, torch.rand(6, 4)).shape == (6, 2)
    assert network.module[3] is head
    assert all(part.training for part in network.module.modules())
    after = network.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


class Counts(nn.Module):
    """Counts its calls, in evaluation mode too, and gives inputs plus the count."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(3))

    def forward(self, inputs):
        self.calls += 1
        return inputs + self.calls[0]


def test_buffers_that_change_in_evaluation_mode_are_lent_as_copies():
    def make_head(n_outputs):
        return nn.Sequential(Counts(), nn.Linear(5, n_outputs))

    network = MaskedNetwork(nn.Sequential(nn.Linear(4, 5), Counts(), make_head(2)), head="2", make_head=make_head)
    inputs = torch.rand(2, 4)
    probe(network, inputs, 2)
    assert network.module[1].calls.tolist() == [0, 0, 0]
    live_a_day(network)
    assert network.n_private(0) == 5 + 3 + 12 + 3  # biases, the body's buffer, and the head with its own
    network.begin_day(2)
    network.module(inputs)
    for task in (0, 1):
        with network.viewing(task) as compute:
            first, second = compute(inputs), compute(inputs)
        assert torch.equal(first, second)
        assert torch.equal(outputs(network, task, inputs), first)
    assert [buffer[0].item() for buffer in network.module.buffers()] == [1, 1]
    assert network.private_of(0)["1.calls"].tolist() == [0, 0, 0]
    assert not any(buffer.any() for buffer in network.heads.kept[0].buffers())


def test_looking_is_undone_after_an_error_too():
    network = MaskedNetwork(mlp())
    live_a_day(network)
    network.begin_day(2)
    network.module.train()
    head = network.module[2]
    with pytest.raises(RuntimeError), network.viewing(0) as compute:
        compute(torch.rand(2, 99))
    assert network.module[2] is head
    assert network.module.training


@pytest.mark.parametrize("biases", ["freeze-after-first", "per-task"])
def test_biases_are_frozen_or_private(biases):
    network = MaskedNetwork(mlp(), biases=biases)
    live_a_day(network)
    first = network.module[0].bias.detach().clone()
    inputs = torch.rand(3, 4)
    before = outputs(network, 0, inputs)
    live_a_day(network, shift=5.0)
    moved = not torch.equal(network.module[0].bias, first)
    assert moved == (biases == "per-task")
    assert network.n_private(1) == 12 + (5 if biases == "per-task" else 0)
    assert torch.equal(outputs(network, 0, inputs), before)


def test_norm_parameters_and_statistics_are_private_to_each_task():
    norms = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True), nn.Flatten(), nn.Linear(36, 8), nn.LayerNorm(8),
        nn.Linear(8, 2),
    )  # fmt: skip
    network = MaskedNetwork(norms)
    inputs = torch.rand(6, 1, 5, 5)
    seen = []
    for _ in range(3):
        network.begin_day(2)
        network.module.train()
        network.module(torch.rand(6, 1, 5, 5) * 9)
        with torch.no_grad():
            for item in network.trainables():
                item.parameter.add_(0.1 if item.mask is None else 0.1 * item.mask)
        network.release(keep_first(network, 3))
        network.end_day()
        seen.append(outputs(network, network.n_tasks - 1, inputs))
    assert all(torch.equal(outputs(network, task, inputs), seen[task]) for task in range(3))
    assert not torch.equal(seen[0], seen[1])


def test_excluded_layers_are_trained_with_the_first_task_and_then_frozen():
    module = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2))
    for exclude in (["0"], "0", lambda name, part: name == "0"):
        network = MaskedNetwork(module, exclude=exclude)
        assert network.sizes == {"1": 25}
        weight = network.module[0].weight
        start = weight.detach().clone()
        live_a_day(network)
        first = weight.detach().clone()
        assert not torch.equal(first, start)
        live_a_day(network)
        assert torch.equal(weight, first)


def test_parameters_that_the_caller_froze_never_move():
    module = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2))
    module[0].requires_grad_(False)
    network = MaskedNetwork(module)
    assert network.sizes == {"1": 25}
    live_a_day(network)
    assert torch.equal(network.module[0].weight, module[0].weight)


def test_head_can_be_named_and_made_by_the_caller():
    module = nn.Sequential(nn.Linear(4, 5), nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)))
    network = MaskedNetwork(module, head="1", make_head=lambda n: nn.Sequential(nn.Linear(5, 7), nn.Linear(7, n)))
    assert network.sizes == {"0": 20}
    live_a_day(network, n_outputs=9)
    assert outputs(network, 0, torch.rand(2, 4)).shape == (2, 9)
    conv = MaskedNetwork(nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(3, 2, 1), nn.Flatten()), head="1")
    live_a_day(conv, n_outputs=6)
    assert outputs(conv, 0, torch.rand(2, 1, 3, 3)).shape == (2, 6)


def test_more_than_255_tasks_work():
    network = MaskedNetwork(nn.Sequential(nn.Linear(20, 20, bias=False), nn.Linear(20, 2, bias=False)))
    inputs = torch.rand(2, 20)
    seen = []
    for _ in range(300):
        live_a_day(network, k=1)
        seen.append(outputs(network, network.n_tasks - 1, inputs))
    assert [sum(network.count(task).values()) for task in range(300)] == [1] * 300
    assert all(torch.equal(outputs(network, task, inputs), seen[task]) for task in range(0, 300, 13))


def test_owner_maps_widen_before_their_integers_run_out(monkeypatch):
    network = MaskedNetwork(mlp())
    live_a_day(network)
    monkeypatch.setattr(MaskedNetwork, "n_tasks", 40_001)
    network.begin_day(2)
    assert network.owners["0"].dtype == torch.int32
    assert network.count(40_001) == {"0": 17}
    assert network.count(0) == {"0": 3}


def test_probe_tells_shapes_that_do_not_fit():
    network = MaskedNetwork(mlp())
    probe(network, torch.rand(2, 4), 7)
    with pytest.raises(NetworkError, match=r"the network cannot read inputs of shape \(5,\), torch\.float32"):
        probe(network, torch.rand(2, 5), 2)
    wrong = MaskedNetwork(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)), head="1")
    with pytest.raises(NetworkError, match="name the layer that makes the outputs with head=, if it is not '1'"):
        probe(wrong, torch.rand(2, 4), 2)
    fixed = MaskedNetwork(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.Softmax(1), nn.Unflatten(1, (-1, 1))))
    with pytest.raises(NetworkError, match=r"asked of the head '1', the network gives \(2, 2, 1\) for a batch of 2"):
        probe(fixed, torch.rand(2, 4), 2)


class Raw(nn.Module):
    def __init__(self, n=1):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.table = nn.Parameter(torch.ones(n, 3))
        self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs) * self.scale + self.table[0])


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        (nn.Linear(3, 2), {}, "the network is a single linear layer, its head, so there is nothing to mask"),
        (nn.Sequential(nn.ReLU(), nn.Linear(3, 2)), {}, "there is nothing to mask: apart from the head '1'"),
        (nn.Sequential(nn.Conv2d(1, 1, 1)), {}, r"the network has no linear layer to be the head\. Name the head"),
        (mlp(), {"head": "9"}, r"head='9' is not a part of the network\. Its linear layers are: \['0', '2'\]"),
        (mlp(), {"exclude": ["9"]}, r"exclude names \['9'\], which the network does not have"),
        (mlp(), {"exclude": ["0"]}, "there is nothing to mask"),
        (Raw(3), {}, r"table \(Raw, \(3, 3\)\) is part of a module that .* not know, .* private=\['table'\] gives"),
        (Raw(3), {"private": ["tables"]}, r"private names \['tables'\], which the network does not have"),
        (nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)), {}, r"0 \(LazyLinear\) is lazy\. Run the network once"),
        (nn.Sequential(weight_norm(nn.Linear(3, 3)), nn.Linear(3, 2)), {}, r"computes its weight from others"),
        (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False), nn.Linear(3, 2)), {},
         r"1 \(BatchNorm1d\) keeps no running statistics"),
        ("mlp", {}, "the network must be a torch.nn.Module, not str"),
    ],
)  # fmt: skip
def test_networks_that_would_move_unseen_are_refused(module, settings, message):
    with pytest.raises(NetworkError, match=message):
        MaskedNetwork(module, **settings)


def test_excluded_raw_parameter_is_frozen_after_the_first_task():
    network = MaskedNetwork(Raw(), exclude=["scale"])
    live_a_day(network)
    scale = network.module.scale.detach().clone()
    live_a_day(network)
    assert torch.equal(network.module.scale, scale)
    assert scale.tolist() == [2.0, 2.0, 2.0]


def test_head_whose_weight_is_shared_is_refused():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    with pytest.raises(NetworkError, match=r"0\.weight is shared with the head '1'"):
        MaskedNetwork(module)


def test_head_of_a_kind_that_cannot_be_made_anew_is_refused():
    network = MaskedNetwork(nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 2))), head="1")
    with pytest.raises(NetworkError, match="a head of type Sequential cannot be made anew for each task"):
        network.begin_day(2)


@pytest.mark.parametrize("settings", [{"biases": "shared"}, {"restart": "random"}])
def test_settings_outside_their_choices_are_refused(settings):
    with pytest.raises(SettingError, match="must be one of"):
        MaskedNetwork(mlp(), **settings)


def test_heads_are_joined_only_where_nothing_is_frozen():
    with pytest.raises(SettingError, match=r"joins_heads=True lets heads of earlier tasks learn: it needs freezes=F"):
        MaskedNetwork(mlp(), joins_heads=True)
    network = MaskedNetwork(mlp(), freezes=False, joins_heads=True)
    live_a_day(network)
    live_a_day(network, n_outputs=3)
    assert network.module[2].out_features == 5
    assert [network.n_private(task) for task in (0, 1)] == [2 * 5 + 2 + 5, 3 * 5 + 3]
