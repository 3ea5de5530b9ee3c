"""Layers that are masked because the user names them, and refusals that name all parts at once."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Task, TaskStream, Training, UniformCycles
from daynight.errors import NetworkError, SettingError
from daynight.networks.anatomy import dissect
from daynight.networks.masked import FREE, MaskedNetwork
from daynight.storage import agents


class Conv1D(nn.Module):
    """GPT-2's linear layer, whose weight is (inputs, outputs)."""

    def __init__(self, n_outputs, n_inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_inputs, n_outputs) / n_inputs**0.5)
        self.bias = nn.Parameter(torch.zeros(n_outputs))

    def forward(self, inputs):
        return inputs @ self.weight + self.bias


class Sine(nn.Module):
    """A layer of SIREN, with a weight and a frequency of its own, which draws its values by a method."""

    def __init__(self, n_outputs, n_inputs):
        super().__init__()
        self.kernel, self.frequency = nn.Parameter(torch.empty(n_outputs, n_inputs)), nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(n_outputs))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.uniform_(self.kernel, -1, 1)

    def forward(self, inputs):
        return torch.sin(self.frequency * nn.functional.linear(inputs, self.kernel, self.bias))


class Grouped(nn.Module):
    """A layer with a weight of three dimensions, one matrix for each of two groups, and without a bias."""

    def __init__(self, n_outputs, n_inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, n_inputs // 2, n_outputs // 2))

    def forward(self, inputs):
        return torch.einsum("bgi,gio->bgo", inputs.unflatten(1, (2, -1)), self.weight).flatten(1)


class Net(nn.Module):
    """Two layers of a kind that daynight does not know, with a norm layer and a known layer between them."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.norm, self.known, self.last = kind(12, 6), nn.LayerNorm(12), nn.Linear(12, 12), kind(8, 12)
        self.head = nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(torch.relu(self.last(torch.relu(self.known(self.norm(self.first(inputs)))))))


KINDS = {"Conv1D": Conv1D, "Sine": Sine, "Grouped": Grouped}
WEIGHTS = {"Conv1D": "weight", "Sine": "kernel", "Grouped": "weight"}


def days():
    inputs = torch.randn(80, 6, generator=torch.Generator().manual_seed(0))
    labels = [(inputs[:, day] * inputs[:, 3] > 0).long() for day in range(3)]
    return TaskStream(
        [Task(train=(inputs[:56], own[:56]), test=(inputs[56:], own[56:]), n_outputs=2) for own in labels]
    )


def by_class(name):
    return lambda full_name, part: type(part).__name__ == name


@pytest.mark.parametrize("biases", ["per-task", "freeze-after-first"])
@pytest.mark.parametrize("name", KINDS)
def test_layers_that_are_named_are_masked_and_never_move(name, biases, tmp_path):
    settings = {"training": Training(batch_size=8), "biases": biases}
    capacity = Capacity(free_at_end=0.3, days=3)
    agent = Agent(lambda: Net(KINDS[name]), capacity=capacity, mask=by_class(name), **settings)
    assert agent.n_weights == sum(
        parameter.numel() for own, parameter in agent.network.module.named_parameters()
        if parameter.dim() > 1 and not own.startswith("head")
    )  # fmt: skip
    clock = Clock(agent, days(), policy=UniformCycles(2), wake=Epochs(3), night=Epochs(2))
    seen, inputs = [], days()[0].test.load()[0]
    for day in range(3):
        clock.step()
        seen.append(agent.predict(inputs, day))
        assert all(torch.equal(agent.predict(inputs, index), before) for index, before in enumerate(seen))
        sizes = tuple(agent.network.sizes.values())
        assert sum(agent.owned) == sum(agent.capacity.owned_after(sizes, day + 1))
        for layer, owners in agent.network.owners.items():
            assert not agent.network.weights[layer][owners == FREE].any()
    agent.verify()
    has_bias = name != "Grouped"
    assert ("first.bias" in agent.network.anatomy.biases) == has_bias
    assert ("first.bias" in agent.network.private_of(0)) == (has_bias and biases == "per-task")
    agent.save(tmp_path / "agent.dn")
    other = Agent.load(tmp_path / "agent.dn", lambda: Net(KINDS[name]), training=agent.training)
    for one in (other, agent.fork()):
        assert one.network.anatomy == agent.network.anatomy
        assert all(torch.equal(one.predict(inputs, index), before) for index, before in enumerate(seen))
    for compact in (False, True):
        with torch.no_grad():
            assert torch.allclose(agent.subnetwork(1, compact=compact)(inputs), seen[1], atol=1e-5)
    agent.export(1, tmp_path / "task.pt2", compact=True)
    sizes = {size.part: size.n_numbers for size in agent.sizes()}
    assert sizes["maskable weights"] == sizes["owner maps"] == agent.n_weights


def test_forms_in_which_layers_are_named():
    names = ("first", "last")
    expected = dissect(Net(Conv1D), mask=by_class("Conv1D"))
    assert expected.chosen == ("first.weight", "last.weight")
    assert list(expected.masked) == ["first", "known", "last"]
    assert expected.biases == ("first.bias", "known.bias", "last.bias")
    for mask in (names, [f"{name}.weight" for name in names], ["first", "last.weight"]):
        assert dissect(Net(Conv1D), mask=mask) == expected
    sine = dissect(Net(Sine), mask=names)
    assert (sine.masked["first.kernel"], "first.frequency" in sine.private) == ("first.kernel", True)


def test_what_is_excluded_or_private_is_not_masked():
    anatomy = dissect(Net(Conv1D), mask=by_class("Conv1D"), exclude=["first"], private=["last.weight"])
    assert list(anatomy.masked) == ["known"]
    assert anatomy.frozen == ("first.weight", "first.bias")
    assert "last.weight" in anatomy.private


def test_parameters_that_are_named_are_masked_beside_their_neighbours():
    class Placed(Net):
        def __init__(self):
            super().__init__(nn.Linear)
            self.place = nn.Parameter(torch.randn(1, 12))

    assert dissect(Placed(), mask=["place"]).masked["place"] == "place"
    assert dissect(Placed()).private[0] == "place"  # as it has always been: a vector


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (["9"], NetworkError, r"mask names \['9'\], which the network does not have\."),
        (["norm", "first.bias"], NetworkError,
         r"mask names \['norm', 'first\.bias'\], which have no parameter of two or more dimensions\. Vectors"),
        (3, SettingError, r"mask must be names of modules or parameters, such as \['0'\], or a function"),
        (nn.Linear, SettingError, r"mask must be names of modules or parameters"),
        (lambda name: True, SettingError, r"mask must be a function of \(name, module\), and this one fails for"),
    ],
)  # fmt: skip
def test_names_of_nothing_are_refused(mask, error, message):
    with pytest.raises(error, match=message):
        Agent(lambda: Net(Conv1D), capacity=Capacity(free_at_end=0.3, days=3), mask=mask)


def test_weights_are_drawn_anew_only_by_layers_that_can():
    capacity = Capacity(free_at_end=0.5, days=3)
    with pytest.raises(SettingError) as error:
        Agent(lambda: Net(Conv1D), capacity=capacity, mask=["first", "last"], restart="redraw")
    assert str(error.value) == (
        "restart='redraw' draws new values by the method reset_parameters() of each masked module, and Conv1D has "
        "none, for first.weight, last.weight. Add that method, or choose restart='zero' or 'keep'."
    )
    agent = Agent(lambda: Net(Sine), capacity=capacity, mask=["first", "last"], restart="redraw",
                  training=Training(batch_size=8))  # fmt: skip
    first, second, _ = days()
    agent.wake(first, Epochs(1))
    agent.sleep(OneShot(), Epochs(1))
    weight = agent.network.module.first.kernel
    assert not weight[agent.network.owners["first.kernel"] == FREE].any()
    agent.wake(second, Epochs(0))
    assert bool(weight[agent.network.owners["first.kernel"] == 1].all())


def fails(layer):
    if hasattr(layer, "is_made"):
        raise ValueError("no")
    layer.is_made = True


def grows(layer):
    nn.init.zeros_(layer.bias)
    # Not by the values that it finds: when a layer is made they are whatever was in memory.
    layer.weight = nn.Parameter(torch.randn((3, 3) if hasattr(layer, "is_made") else layer.weight.shape))
    layer.is_made = True


@pytest.mark.parametrize(("kind", "method", "reason"), [
    (nn.Linear, fails, r"failed: ValueError\('no'\)"),
    (nn.Linear, grows, r"makes a tensor \(3, 3\), and it is \(6, 12\)"),
    (Conv1D, lambda layer, std: nn.init.normal_(layer.weight, std=std), r"failed: TypeError\("),
    (Conv1D, lambda layer: nn.init.normal_(layer.bias), "leaves values as they were"),
    (Conv1D, lambda layer: layer.weight.data[1:].normal_(), "leaves values as they were"),
    (Conv1D, lambda layer: delattr(layer, "weight"), r"failed: AttributeError\("),
])  # fmt: skip
def test_a_method_that_draws_no_new_weights_is_found_when_the_agent_is_made(kind, method, reason):
    network = Net(type("Own", (kind,), {"reset_parameters": method}))
    for parameter in network.parameters():  # what no method has drawn is whatever was in memory
        nn.init.normal_(parameter)
    names = [] if issubclass(kind, nn.Linear) else ["first", "last"]
    before = network.first.weight.clone()
    with pytest.raises(SettingError, match=rf"first\.weight by .*\(\) of Own, which {reason}.*restart='zero'"):
        MaskedNetwork(network, mask=names, restart="redraw")
    assert torch.equal(network.first.weight, before)
    MaskedNetwork(network, mask=names, restart="keep")
    sine, state = Net(Sine), torch.get_rng_state()
    MaskedNetwork(sine, mask=["first", "last"], restart="redraw")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_file_without_named_layers_says_nothing_of_them(tmp_path):
    agent = Agent(lambda: Net(nn.Linear), capacity=Capacity(free_at_end=0.3, days=3))
    assert "mask" not in agents.to_json(agent.about())
    agent = Agent(lambda: Net(Conv1D), capacity=Capacity(free_at_end=0.3, days=3), mask=["first", "last"])
    assert agents.to_json(agent.about())["mask"] == ("first.weight", "last.weight")


def test_a_run_of_named_layers_is_resumed_from_its_checkpoint(tmp_path):
    def clock():
        agent = Agent(
            lambda: Net(Conv1D), capacity=Capacity(free_at_end=0.3, days=3), mask=by_class("Conv1D"),
            training=Training(batch_size=8),
        )  # fmt: skip
        return Clock(agent, days(), policy=OneShot(), wake=Epochs(1), night=Epochs(1), checkpoint=tmp_path / "run")

    first = clock()
    first.run(until=2)
    del first
    second = clock()
    second.run()
    assert second.agent.day == 3


class Tables(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 2)
        self.tables = nn.ParameterList(nn.Parameter(torch.ones(2, 3)) for _ in range(n))


def test_all_parameters_of_unknown_modules_are_named_at_once():
    with pytest.raises(NetworkError) as error:
        dissect(Tables(3))
    names = ["tables.0", "tables.1", "tables.2"]
    assert str(error.value) == (
        "tables.0 (ParameterList, (2, 3)), tables.1 (ParameterList, (2, 3)), tables.2 (ParameterList, (2, 3)) are "
        "parts of modules that daynight does not know, and would change under finished tasks. Choose what they are: "
        f"private={names!r} gives each task its own copy, exclude={names!r} trains them with the first task and then "
        f"freezes them, and mask={names!r} masks them as the weights of a linear layer. Each also takes a function in "
        "place of names, such as mask=lambda name, part: type(part).__name__ == 'ParameterList'."
    )
    for choice in ("private", "exclude", "mask"):
        dissect(Tables(3), **{choice: names})
    with pytest.raises(NetworkError) as error:
        dissect(Tables(1))
    assert str(error.value) == (
        "tables.0 (ParameterList, (2, 3)) is part of a module that daynight does not know, and would change under "
        "finished tasks. Choose what it is: private=['tables.0'] gives each task its own copy, exclude=['tables.0'] "
        "trains it with the first task and then freezes it, and mask=['tables.0'] masks it as the weights of a linear "
        "layer."
    )


def test_all_parts_of_one_fault_are_named_at_once():
    def norm():
        return nn.BatchNorm1d(3, track_running_stats=False)

    with pytest.raises(NetworkError, match=r"^1 \(BatchNorm1d\) keeps .*=True\. The same holds for 3 \(BatchNorm1d\)"):
        dissect(nn.Sequential(nn.Linear(3, 3), norm(), nn.Linear(3, 3), norm(), nn.Linear(3, 2)))
    spoilt = Net(Conv1D)
    for parameter in (spoilt.first.bias, spoilt.last.bias):
        nn.init.constant_(parameter, float("nan"))
    with pytest.raises(NetworkError, match=r"^first\.bias has no values, .* The same holds for last\.bias\."):
        MaskedNetwork(spoilt, mask=["first", "last"])
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight, tied[1].bias = tied[0].weight, tied[0].bias
    with pytest.raises(NetworkError, match=r"^0\.weight is shared with the head '1', .* The same holds for 0\.bias\."):
        dissect(tied)


def pruned(kind, name, how=prune.l1_unstructured):
    how(kind, name, 0.5)
    return nn.Sequential(kind, nn.ReLU(), nn.Linear(16, 2))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: pruned(nn.Linear(6, 16), "weight"),
         r"^0 \(Linear\) is pruned by .* Call torch\.nn\.utils\.prune\.remove\(module, 'weight'\)"),
        (lambda: pruned(nn.Conv1d(6, 16, 1), "bias", prune.random_unstructured), r"prune\.remove\(module, 'bias'\)"),
        (lambda: pruned(nn.LSTM(6, 16), "weight_hh_l0"), r"^0 \(LSTM\) .*prune\.remove\(module, 'weight_hh_l0'\)"),
        (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 16)), nn.Linear(16, 2)),
         r"^0 \(ParametrizedLinear\) .*remove_parametrizations\(module, 'weight'\) first\."),
        (lambda: nn.Sequential(nn.utils.parametrizations.orthogonal(nn.Linear(6, 16)), nn.Linear(16, 2)),
         r"remove_parametrizations\(module, 'weight'\)"),
        (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 16)), nn.Linear(16, 2)),
         r"Call torch\.nn\.utils\.remove_weight_norm or remove_spectral_norm first\."),
        (lambda: torch.jit.trace(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2)), torch.ones(1, 6)),
         r"^the network \(TopLevelTracedModule\) is a ScriptModule, .* before torch\.jit\.script or torch\.jit\."),
        (lambda: nn.DataParallel(nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 2))),
         r"^the network is wrapped in DataParallel, .* Give the module that it wraps, network\.module\."),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_networks_that_tools_have_changed_are_refused_with_the_call_that_helps(network, message):
    with pytest.raises(NetworkError, match=message):
        Agent(network, capacity=Capacity(free_at_end=0.3, days=3))


def test_a_pruned_network_is_taken_once_its_masks_are_removed():
    network = pruned(nn.Linear(6, 16), "weight")
    prune.remove(network[0], "weight")
    assert MaskedNetwork(network).sizes == {"0": 96}


@pytest.mark.filterwarnings("ignore")
def test_quantized_layers_are_named_before_a_head_is_sought():
    layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
    quantized = torch.ao.quantization.quantize_dynamic(layers, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(NetworkError) as error:
        Agent(quantized, capacity=Capacity(free_at_end=0.3, days=3))
    assert str(error.value) == (
        "0 (Linear) is quantized, so its weights cannot be trained. Wrap the network before you quantize it. The same "
        "holds for 2 (Linear)."
    )
