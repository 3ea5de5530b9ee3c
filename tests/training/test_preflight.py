"""What is found out about a day before anything is trained."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional

from daynight import Agent, Capacity, Clock, Epochs, OneShot, Task, Training
from daynight.errors import DataError, NetworkError, SettingError
from daynight.testing import toy_network, toy_stream


def fails(*args):
    raise KeyError("nothing")


def own_optimizer(parameters):
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)


def own_scheduler(optimizer, n_steps):
    return torch.optim.lr_scheduler.StepLR(own_optimizer([]), 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": fails}, r"optimizer failed to make one: KeyError\('nothing'\)"),
        ({"optimizer": functools.partial(torch.optim.SGD, lr=-1.0)}, "optimizer failed to make one: ValueError"),
        ({"optimizer": lambda: None}, "optimizer failed to make one: TypeError"),
        ({"optimizer": own_optimizer}, "optimizer must train the parameters that it is called with"),
        ({"optimizer": torch.optim.LBFGS}, "steps without a closure, not LBFGS"),
        ({"scheduler": fails}, r"scheduler failed to make one: KeyError\('nothing'\)"),
        ({"scheduler": lambda o, n: 42}, "a learning-rate scheduler of the optimizer that it is called with, not 42"),
        ({"scheduler": own_scheduler}, "a learning-rate scheduler of the optimizer that it is called with"),
        ({"scheduler": lambda o, n: torch.optim.lr_scheduler.ReduceLROnPlateau(o)}, "steps without arguments"),
        ({"augment": fails}, r"augment failed on inputs \(7, 6\): KeyError\('nothing'\)"),
        ({"augment": lambda x: None}, r"augment must return a batch of as many inputs, and returned None for \(7, 6\)"),
        ({"augment": lambda x: x[:3]}, r"augment must return a batch of as many inputs, and returned \(3, 6\)"),
        ({"transform": lambda x: x / 0}, "transform returns values that are not finite"),
        ({"transform": fails}, r"transform failed on inputs \(7, 6\)"),
        ({"loss": lambda o, t: 1.0}, "loss must return a scalar tensor that depends on the outputs, and returned 1.0"),
        ({"loss": lambda o, t: functional.cross_entropy(o.detach(), t)}, "Nothing can be learnt without a gradient"),
        ({"loss": lambda o, t: functional.cross_entropy(o.detach().requires_grad_(), t)}, "Nothing can be learnt"),
        ({"loss": lambda o, t: functional.cross_entropy(o, t)[None]}, "loss must return a scalar tensor"),
        ({"optimizer": torch.optim.SparseAdam}, "the optimizer cannot take a step: RuntimeError"),
        ({"loss": functional.mse_loss}, r"the loss must give one number for outputs \(7, 2\) and targets \(7,\)"),
        ({"loss": fails}, r"the loss must give .* It failed: KeyError\('nothing'\)"),
        ({"metric": fails}, r"the metric must give .* It failed: KeyError\('nothing'\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_functions_that_do_not_work_are_refused_before_training(settings, message):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(**settings))
    before = {name: value.clone() for name, value in agent.network.module.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(SettingError, match=f"Training: .*{message}"):
        Clock(agent, toy_stream(1), policy=OneShot(), wake=Epochs(1), night=Epochs(1)).run()
    assert (agent.phase, agent.n_steps) == ("between days", 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in agent.network.module.state_dict().items())


@pytest.mark.parametrize(
    ("setting", "value"), [("optimizer", None), ("optimizer", 3), ("carry_optimizer", "no"), ("engine", "fast")]
)
def test_settings_of_another_kind_are_refused_at_once(setting, value):
    with pytest.raises(SettingError, match=f"Training: {setting} must be "):
        Training(**{setting: value})


def test_optimizer_of_some_parameters_only_is_sound_and_leaves_the_others():
    def matrices_alone(parameters):
        return torch.optim.SGD([p for p in parameters if p.dim() == 2], lr=0.1)

    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(optimizer=matrices_alone))
    before = {name: value.clone() for name, value in agent.network.module.named_parameters()}
    agent.wake(toy_stream(1)[0], Epochs(3))
    after = dict(agent.network.module.named_parameters())
    moved = {name for name, value in before.items() if name != "head.weight" and not torch.equal(after[name], value)}
    assert moved == {"body.1.weight", "body.3.weight", "head.bias"}  # the head is new, and so is its bias


def batch_normed(kind, shape):
    first = nn.Linear(6, 4) if kind is nn.BatchNorm1d else nn.Conv2d(1, 4, 2)
    return nn.Sequential(first, kind(4), nn.ReLU(), nn.Flatten(), nn.Linear(shape, 2))


def test_batch_of_one_is_refused_only_where_batch_normalisation_cannot_train_on_it():
    capacity, training = Capacity(free_at_end=0.5, days=1), Training(batch_size=3)
    inputs, labels = torch.randn(7, 6), torch.arange(7) % 2
    task = Task(train=(inputs, labels), test=(inputs, labels), name="odd")
    agent = Agent(lambda: batch_normed(nn.BatchNorm1d, 4), capacity=capacity, training=training)
    with pytest.raises(DataError, match="day 0, task 'odd': 7 examples in batches of 3 leave a batch of one"):
        agent.check(task)
    images = inputs.reshape(7, 1, 2, 3)
    agent = Agent(lambda: batch_normed(nn.BatchNorm2d, 8), capacity=capacity, training=training)
    agent.wake(Task(train=(images, labels), test=(images, labels)), Epochs(1))
    assert agent.n_steps == 3


@pytest.mark.parametrize("device", ["nonsense", "meta", ["cpu"], "xpu", "mps"])
def test_devices_that_cannot_be_used_are_refused_in_one_line(device):
    with pytest.raises(SettingError, match="cannot be used here: ") as caught:
        Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), device=device)
    assert "\n" not in str(caught.value)


def test_stream_that_is_not_what_the_agent_has_learnt_is_refused_before_training():
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3))
    settings = {"policy": OneShot(), "wake": Epochs(1), "night": Epochs(1)}
    Clock(agent, toy_stream(3), **settings).run(until=1)
    steps = agent.n_steps
    with pytest.raises(DataError, match="'toy 0' has 3 outputs, and the task of day 0 had 2"):
        Clock(agent, toy_stream(3, n_classes=3), **settings).run()
    with pytest.raises(
        DataError, match=r"day 0, task 'toy 0': inputs have the shape \(5,\), and those of day 0 \(6,\)"
    ):
        Clock(agent, toy_stream(3, n_features=5), **settings).run()
    assert agent.n_steps == steps


@pytest.mark.parametrize("hook", [3, None])
def test_hooks_that_cannot_be_called_are_refused_at_once(hook):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1))
    task = toy_stream(1)[0]
    with pytest.raises(SettingError, match=f"on_event must be a function, not {hook}"):
        agent.wake(task, Epochs(1), hook)
    assert agent.phase == "between days"
    agent.wake(task, Epochs(1))
    for call in (lambda: agent.sleep(OneShot(), Epochs(1), hook), lambda: agent.finish_night(hook)):
        with pytest.raises(SettingError, match="on_event must be a function"):
            call()
    assert agent.phase == "dusk"


def test_looking_at_a_task_moves_nothing_even_with_optimizers_that_need_no_gradient():
    class Decaying(torch.optim.Optimizer):
        def __init__(self, parameters):
            super().__init__(parameters, {"lr": 0.1})

        @torch.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.mul_(0.9)

    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3), training=Training(optimizer=Decaying))
    before = {name: weight.detach().clone() for name, weight in agent.network.weights.items()}
    agent.check(toy_stream(1)[0])
    assert all(torch.equal(weight, before[name]) for name, weight in agent.network.weights.items())


@pytest.mark.parametrize(
    "spoil", [lambda p: p.detach().fill_(float("nan")), lambda p: p.detach()[0].fill_(float("inf"))]
)
def test_networks_that_begin_with_values_that_are_not_finite_are_refused(spoil):
    network = toy_network()
    spoil(network.body[1].weight)
    with pytest.raises(NetworkError, match=r"body\.1\.weight has no values, or some that are not finite"):
        Agent(network, capacity=Capacity(free_at_end=0.5, days=3))
    with pytest.raises(NetworkError, match="has no values"):
        Agent(toy_network().to("meta"), capacity=Capacity(free_at_end=0.5, days=3))


class Pooling(nn.Module):
    """Reads inputs of any length."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(1, 8), nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.body(inputs[..., None]).relu().mean(1))


@pytest.mark.parametrize(
    ("augment", "made"),
    [
        (lambda inputs: inputs[:, :3], r"\(3,\), torch.float32"),
        (lambda inputs: inputs.double(), r"\(6,\), torch.float64"),
        (lambda inputs: torch.cat([inputs, inputs], 1), r"\(12,\), torch.float32"),
    ],
)
@pytest.mark.parametrize("transform", [None, torch.tanh])
def test_augmented_inputs_that_the_network_cannot_read_are_refused(augment, made, transform):
    training = Training(batch_size=10, augment=augment, transform=transform)
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3), training=training)
    with pytest.raises(SettingError, match=rf"augment makes inputs of shape {made}, of \(6,\), torch.float32, and the"):
        agent.check(toy_stream(1)[0])


def test_augmented_inputs_of_another_shape_are_taken_if_the_network_reads_them():
    training = Training(batch_size=10, augment=lambda inputs: inputs[:, :4])
    agent = Agent(Pooling, capacity=Capacity(free_at_end=0.5, days=3), training=training)
    Clock(agent, toy_stream(1), policy=OneShot(), wake=Epochs(1), night=Epochs(1)).run()
    agent.verify()


class Centres(nn.Module):
    """Pulls outputs to a centre of their class, which is a parameter of the loss."""

    def __init__(self):
        super().__init__()
        self.centres = nn.Parameter(torch.eye(2))

    def forward(self, outputs, targets):
        return functional.cross_entropy(outputs, targets) + (outputs - self.centres[targets]).square().mean()


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Centres()
        self.logarithm = nn.Parameter(torch.zeros(()))

    def forward(self, outputs, targets):
        return functional.cross_entropy(outputs, targets) * self.logarithm.exp() + self.inner(outputs, targets)


TEMPERATURE = nn.Parameter(torch.ones(1))


def scaled(outputs, targets):
    return functional.cross_entropy(outputs * TEMPERATURE, targets)


@pytest.mark.parametrize(("loss", "shapes"), [(Centres(), r"\(2, 2\)"), (Weighted(), r".*\(\).*"), (scaled, r"\(1,\)")])
def test_losses_with_parameters_of_their_own_are_refused(loss, shapes):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(loss=loss))
    message = (
        rf"the loss has parameters of its own, of shape {shapes}, .*Agent\(private=\.\.\.\).*requires_grad_\(False\)"
    )
    with pytest.raises(SettingError, match=message):
        agent.check(toy_stream(1)[0])


@pytest.mark.parametrize("make", [Centres, Weighted])
def test_parameters_of_a_loss_that_stay_as_they_are_are_accepted(make):
    loss = make().requires_grad_(False)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    weights = []
    for one in (loss, make().requires_grad_(False)):
        agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(loss=one))
        agent.wake(toy_stream(1)[0], Epochs(2))
        weights.append(agent.network.weights["body.1"].detach().clone())
    assert torch.equal(*weights)
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_losses_that_make_tensors_with_gradients_at_each_call_are_accepted():
    def smoothed(outputs, targets):
        noise = torch.zeros_like(outputs).requires_grad_()
        (slope,) = torch.autograd.grad(functional.cross_entropy(outputs + noise, targets), noise, create_graph=True)
        return functional.cross_entropy(outputs + noise, targets) + slope.square().sum()

    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(loss=smoothed))
    agent.wake(toy_stream(1)[0], Epochs(2))


QUANTILES = torch.tensor([0.1, 0.5, 0.9])


def pinball(outputs, targets):
    difference = targets - outputs
    return torch.maximum(QUANTILES * difference, (QUANTILES - 1) * difference).mean()


def of_mean_and_variance(outputs, targets):
    means, logarithms = outputs.chunk(2, dim=1)
    return (0.5 * (logarithms + (targets - means).square() / logarithms.exp())).mean()


def of_the_sum(outputs, targets):
    return (outputs[:, 0] - targets.sum(1)).square().mean()


def regression(n_values, n_outputs):
    inputs = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    targets = inputs[:, :n_values] * 2
    return Task(train=(inputs[:40], targets[:40]), test=(inputs[40:], targets[40:]), n_outputs=n_outputs)


@pytest.mark.parametrize(
    ("loss", "n_values", "n_outputs"), [(pinball, 1, 3), (of_mean_and_variance, 2, 4), (of_the_sum, 3, 1)]
)
def test_a_loss_of_its_own_may_want_another_number_of_outputs_than_of_target_values(loss, n_values, n_outputs):
    task = regression(n_values, n_outputs)
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), seed=1, training=Training(
        batch_size=10, loss=loss, metric=lambda o, t: -float(loss(o, t)),
        optimizer=functools.partial(torch.optim.Adam, lr=0.01)))  # fmt: skip
    clock = Clock(agent, [task], policy=OneShot(), wake=Epochs(20), night=Epochs(20))
    inputs, targets = task.test.load()
    history = clock.run()
    outputs = agent.predict(inputs, 0)
    assert outputs.shape == (20, n_outputs)
    assert history.accuracy[0, 0] == pytest.approx(-float(loss(outputs, targets)), rel=1e-6)
    inputs, targets = task.train.load()
    assert loss(agent.predict(inputs, 0), targets) < loss(torch.zeros(40, n_outputs), targets)


@pytest.mark.parametrize("settings", [{}, {"metric": pinball}, {"loss": pinball}])
def test_another_number_of_outputs_without_loss_and_metric_is_refused(settings):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(**settings))
    message = "has 3 outputs, and floating-point targets, which means regression, of 1 value an"
    with pytest.raises(SettingError, match=message):
        agent.check(regression(1, 3))


def test_numbers_of_outputs_that_are_no_multiple_are_refused():
    with pytest.raises(
        DataError, match=r"targets have 2 values an example, and the task has 3 outputs\. One number must"
    ):
        regression(2, 3)


class Twice(torch.optim.SGD):
    """Computes the gradient twice in a step, as SAM does."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1)

    def step(self, closure=None):
        if closure is None:
            raise ValueError("Twice requires closure.")


@pytest.mark.parametrize(("make", "advice"), [
    (Twice, r"Twice requires closure.*Take an optimizer that steps without one, such as the base optimizer of SAM"),
    (lambda parameters: torch.optim.SGD(parameters, lr=0.1, differentiable=True), "Leave differentiable=True out"),
    (lambda parameters: torch.optim.Adam(parameters, differentiable=True), "Leave differentiable=True out"),
])  # fmt: skip
def test_an_optimizer_that_cannot_step_is_refused_with_what_to_do(make, advice):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=1), training=Training(optimizer=make))
    with pytest.raises(SettingError, match=f"the optimizer cannot take a step: .*{advice}"):
        agent.check(toy_stream(1)[0])


def test_whether_a_step_works_is_tried_once_for_tasks_of_a_form():
    made = []

    def optimizer(parameters):
        made.append(1)
        return torch.optim.SGD(parameters, lr=0.1)

    agent = Agent(toy_network, capacity=Capacity(keep_per_night=0.1), training=Training(optimizer=optimizer))

    def tried(task):
        before = len(made)
        agent.check(task)
        return len(made) - before

    first, second = toy_stream(2)
    assert tried(first) > 0
    assert tried(second) == 0
    inputs, targets = first.train.load()
    wide = Task(train=(inputs, targets), test=(inputs, targets), n_outputs=3)
    assert tried(wide) > 0
    assert tried(wide) == 0
    real = Task(train=(inputs, targets.float()[:, None]), test=(inputs, targets.float()[:, None]), n_outputs=1)
    assert tried(real) > 0
    agent.training = Training(optimizer=optimizer, batch_size=3)
    assert tried(first) > 0
