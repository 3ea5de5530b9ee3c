"""Networks and settings that do more than a trace shows are learnt as they are, with every engine."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_hook

from daynight import Agent, Capacity, Clock, Epochs, Task, Training, UniformCycles
from daynight.errors import NetworkError

SGD = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9)


class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(10, 12), nn.Linear(12, 12), nn.Linear(12, 2)
        self.register_buffer("mean", torch.zeros(10))

    def forward(self, x):
        return self.head(functional.relu(self.b(self.middle(functional.relu(self.a(x))))))

    def middle(self, h):
        return h


class Detaching(Base):
    def middle(self, h):
        return h.detach()


class WithoutGradient(Base):
    def middle(self, h):
        with torch.no_grad():
            scale = h.mean(1, keepdim=True) + 1
        return h / scale


class TiedByHand(Base):
    def middle(self, h):
        return functional.relu(functional.linear(functional.linear(h, self.a.weight.t()), self.a.weight))


class KeepsMean(Base):
    def forward(self, x):
        if self.training:
            mean = x.mean(0)
            with torch.no_grad():
                self.mean.mul_(0.9).add_(0.1 * mean.detach())
        else:
            mean = self.mean
        return super().forward(x - mean)


class Counts(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.n = self.n + 1
        return super().forward(x * (1 + 0.01 * self.n))


class SkipsAtRandom(Base):
    def middle(self, h):
        if self.training and torch.rand(1).item() < 0.5:
            return h
        return h * 2


def pooled(pool, width):
    return lambda: nn.Sequential(nn.Linear(10, 12), nn.ReLU(), pool, nn.Linear(width, 6), nn.ReLU(), nn.Linear(6, 2))


class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.drop, self.b, self.head = nn.Conv1d(1, 4, 3), nn.Dropout(0.3), nn.Linear(4, 5), nn.Linear(40, 2)

    def forward(self, x):
        return self.head(self.b(self.drop(self.a(x[:, None]).transpose(1, 2))).flatten(1))


NETWORKS = {
    "detach": Detaching, "no_grad": WithoutGradient, "tied": TiedByHand, "buffer": KeepsMean, "counter": Counts,
    "random": SkipsAtRandom, "average": pooled(nn.AvgPool1d(3, 1, 1), 12), "maximum": pooled(nn.MaxPool1d(2), 6),
    "adaptive": pooled(nn.AdaptiveAvgPool1d(6), 6), "turned dropout": Turned,
}  # fmt: skip


def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(48, 10, generator=generator).double()
    inputs[:, 3:5] = 0
    return inputs, (inputs[:, 0] > 0).long()


def lived(engine, make=Base, **training):
    inputs, labels = data()
    task = Task(train=(inputs, labels), test=(inputs, labels))
    agent = Agent(
        lambda: make().double(), capacity=Capacity(free_at_end=0.4, days=2),
        training=Training(batch_size=16, engine=engine, **{"optimizer": SGD, **training}),
    )  # fmt: skip
    Clock(agent, [task, task], policy=UniformCycles(2), wake=Epochs(3), night=Epochs(3)).run()
    return agent


def assert_alike(found, expected):
    for name, owners in expected.network.owners.items():
        assert torch.equal(found.network.owners[name], owners)
        assert torch.allclose(found.network.weights[name], expected.network.weights[name], rtol=0, atol=1e-8)
    inputs, _ = data()
    assert all(torch.allclose(found.predict(inputs, t), expected.predict(inputs, t), atol=1e-8) for t in (0, 1))


@pytest.mark.parametrize("engine", ["auto", "dense", "sparse"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_that_a_trace_does_not_show_are_learnt_as_they_are(name, engine):
    assert_alike(lived(engine, NETWORKS[name]), lived("module", NETWORKS[name]))


def clipping(parameters, optimizer_of=SGD, given=False):
    optimizer = optimizer_of(parameters)

    def clip(optimizer, args, kwargs):
        chosen = parameters if given else [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(chosen, 0.1)

    optimizer.register_step_pre_hook(clip)
    return optimizer


def watching(parameters):
    for parameter in parameters:
        parameter.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))
    return SGD(parameters)


def accumulated(parameters, change):
    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(change)
    return SGD(parameters)


def clamp(parameter):
    parameter.grad.clamp_(-0.01, 0.01)


def clear(parameter):
    parameter.grad = None


def shift(parameter):
    parameter.grad += 0.01


def patched(parameters):
    optimizer = SGD(parameters)
    step = optimizer.step

    def clipped(closure=None):
        torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        return step(closure)

    optimizer.step = clipped
    return optimizer


@pytest.mark.parametrize(
    "optimizer",
    [
        clipping, functools.partial(clipping, given=True), watching, patched,
        *(functools.partial(accumulated, change=change) for change in (clamp, clear, shift)),
    ],
)  # fmt: skip
def test_optimizers_that_do_more_than_their_class_says_see_the_network_itself(optimizer):
    assert_alike(lived("auto", optimizer=optimizer), lived("module", optimizer=optimizer))


def test_decay_that_a_scheduler_turns_on_moves_what_was_left_out():
    class TurnsOn(torch.optim.lr_scheduler.LRScheduler):
        def step(self, epoch=None):
            super().step(epoch)
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.1 if self.last_epoch >= 2 else 0.0

        def get_lr(self):
            return [group["lr"] for group in self.optimizer.param_groups]

    def scheduler(optimizer, n_steps):
        return TurnsOn(optimizer)

    assert_alike(lived("auto", scheduler=scheduler), lived("module", scheduler=scheduler))


def test_loss_that_reads_the_weights_is_minimized_with_them():
    def make(engine):
        holder = []

        def loss(outputs, targets):
            penalty = sum(p.square().sum() for p in holder[0].network.module.parameters()) if holder else 0
            return functional.cross_entropy(outputs, targets) + 0.01 * penalty

        inputs, labels = data()
        agent = Agent(lambda: Base().double(), capacity=Capacity(free_at_end=0.4, days=1),
                      training=Training(batch_size=16, engine=engine, optimizer=SGD, loss=loss))  # fmt: skip
        holder.append(agent)
        agent.wake(Task(train=(inputs, labels), test=(inputs, labels)), Epochs(3))
        return agent.network.weights["a"].detach()

    assert torch.allclose(make("auto"), make("module"), rtol=0, atol=1e-8)


def test_class_probabilities_are_learnt_with_the_functional_loss():
    inputs, labels = data()
    soft = functional.one_hot(labels, 2).double() * 0.8 + 0.1
    outputs = []
    for loss in (functional.cross_entropy, nn.CrossEntropyLoss()):
        agent = Agent(lambda: Base().double(), capacity=Capacity(free_at_end=0.4, days=1),
                      training=Training(batch_size=16, optimizer=SGD, loss=loss))  # fmt: skip
        agent.wake(Task(train=(inputs, soft), test=(inputs, soft)), Epochs(2))
        outputs.append(agent.predict(inputs, 0))
    assert torch.allclose(*outputs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("engine", ["auto", "module"])
def test_functions_and_layers_that_write_into_their_inputs_spoil_nothing(engine):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(600, 10, generator=generator)
    before, labels = inputs.clone(), torch.arange(600) % 2
    writing = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 2))
    agent = Agent(writing, capacity=Capacity(free_at_end=0.4, days=1),
                  training=Training(batch_size=300, engine=engine, transform=lambda x: x.sub_(0.5)))  # fmt: skip
    task = Task(train=(inputs, labels), test=(inputs, labels))
    Clock(agent, [task], policy=UniformCycles(1), wake=Epochs(1), night=Epochs(1)).run()
    agent.predict(inputs, 0)
    assert torch.equal(inputs, before)


def test_outputs_that_change_in_evaluation_mode_are_refused():
    class AlwaysDropping(Base):
        def middle(self, h):
            return functional.dropout(h)

    with pytest.raises(NetworkError, match="other outputs for equal inputs in evaluation mode"):
        lived("auto", AlwaysDropping)


def test_networks_without_gradients_in_training_are_refused():
    network = nn.Sequential(nn.Linear(10, 12), nn.Sigmoid(), nn.Dropout(0.2, inplace=True), nn.Linear(12, 2))
    with pytest.raises(NetworkError, match="no gradients can be computed"):
        lived("auto", lambda: network)


def louder(module, inputs, outputs):
    """Change the outputs of linear layers in training."""
    return outputs * 1.1 if module.training and isinstance(module, nn.Linear) else None


def shifted(module, inputs):
    return (inputs[0] + 0.1,) if module.training else None


def weaker(module, by_inputs, by_outputs):
    return tuple(None if gradient is None else gradient * 0.9 for gradient in by_inputs)


def on_layer(network):
    return network.module.a.register_forward_hook(louder)


def on_whole(network):
    return network.module.register_forward_pre_hook(shifted)


def on_gradients(network):
    return network.module.b.register_full_backward_hook(weaker)


def on_all(network):
    return register_module_forward_hook(louder)


def on_all_gradients(network):
    return register_module_full_backward_hook(
        lambda module, by_inputs, by_outputs: (
            weaker(module, by_inputs, by_outputs) if isinstance(module, nn.Linear) else None
        )
    )


def on_parameter(network):
    return network.module.a.weight.register_post_accumulate_grad_hook(clamp)


def on_gradient(network):
    return network.module.b.weight.register_hook(lambda gradient: gradient.clamp(-0.01, 0.01))


HOOKS = [on_layer, on_whole, on_gradients, on_all, on_all_gradients, on_parameter, on_gradient]


def lived_with(register, when, engine, carries):
    """Live two days, in the second of which a hook is there."""
    inputs, labels = data()
    task, handles = Task(train=(inputs, labels), test=(inputs, labels)), []
    agent = Agent(
        lambda: Base().double(), capacity=Capacity(free_at_end=0.4, days=2),
        training=Training(batch_size=16, engine=engine, optimizer=SGD, carry_optimizer=carries),
    )  # fmt: skip

    def note(event):
        is_now = getattr(event, "kind", None) == "epoch" and (event.day, event.phase) == (1, when)
        if is_now and register and not handles:
            handles.append(register(agent.network))

    clock = Clock(agent, [task, task], policy=UniformCycles(2), wake=Epochs(3), night=Epochs(3), on_event=note)
    try:
        clock.run(until=1)
        if when == "between days" and register:
            handles.append(register(agent.network))
        clock.run()
    finally:
        for handle in handles:
            handle.remove()
    assert bool(handles) == bool(register)
    return agent


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("register", HOOKS, ids=lambda register: register.__name__)
@pytest.mark.parametrize("when", ["between days", "wake", "rem"])
@pytest.mark.parametrize("carries", [False, True], ids=["anew", "carried"])
def test_hooks_are_heard_from_the_moment_they_come(register, when, carries):
    found, expected = (lived_with(register, when, engine, carries) for engine in ("auto", "module"))
    assert_alike(found, expected)
    without = lived_with(None, when, "module", carries).network.weights
    moved = [
        (weight.detach() - without[name].detach()).abs().max() for name, weight in expected.network.weights.items()
    ]
    assert max(moved) > 1e-4  # the hook has an effect
