"""What works with which optimizer, scheduler and loss: one row each, about two seconds a row.

Every class of `torch.optim`, `torch.optim.lr_scheduler` and `pytorch_optimizer`, those of three packages of
learning-rate-free and schedule-free optimizers, and some losses. In each row, a small network learns two tasks:

- is it accepted, and if not, by which error; does the same loop in plain PyTorch fail, too;
- does the first task keep its bits and its predictions after the second day, and are free weights exactly zero;
- does a run that is stopped in the wake and in the night of the second day, and resumed, end with the same bits;
- the score on validation data beside that of a plain PyTorch loop, which takes the same steps on the same batches from
  the same values; at dawn the plain loop goes on with the weights that the night has kept, and with its optimizer;
- does the optimizer move numbers whose gradient is zero: by ``decay``, by ``momentum`` (a gradient of earlier steps),
  or as it ``mixes`` numbers (also those that are zero and never have a gradient).

The plain loop chooses the learning rate among the default, 0.001, 0.01, 0.1 and 1. About ten minutes on one core:

    pip install --no-deps pytorch_optimizer==4.1.0 schedulefree==1.4.1 prodigyopt==1.1.2 dadaptation==3.2 einops==0.8.2
    OMP_NUM_THREADS=1 python benchmarks/works_optimizers.py --out docs/results/works_optimizers.csv

`pytorch_optimizer` reads `transformers` if it is there. A run that was cut off continues.

To see what a change of the library does, add ``--new --against docs/results/works_optimizers.csv``. That lists the
rows whose verdict has changed, and the exit status is 1 if a row is worse.
"""

from __future__ import annotations

import functools
import inspect
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import attrs
import dadaptation
import prodigyopt
import pytorch_optimizer
import rows
import schedulefree
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler

import daynight as dn
from daynight.data.batches import HeldBatches
from daynight.errors import DaynightError
from daynight.networks.masked import FREE
from daynight.support import seeding

PACKAGES = ("pytorch_optimizer", "schedulefree", "prodigyopt", "dadaptation")
COLUMNS = (
    "kind", "verdict", "accepted", "rate", "score", "plain score", "dawn", "plain dawn", "distance",
    "by rounding", "frozen", "zeros", "resumed", "moves without gradient", "plain error",
)  # fmt: skip
N_FEATURES, N_CLASSES, N_EXAMPLES, BATCH, N_STEPS = 8, 4, 400, 32, 80
RATES = (None, 1e-3, 1e-2, 1e-1, 1.0)
#: Scores that are lower by this than those of the plain loop, at dusk and at dawn, are not only noise.
SLACK, NIGHT_SLACK = 0.06, 0.1
#: Weights that are further than this from those of the plain loop, relative to these, differ by more than rounding.
FAR = 1e-2
CAPACITY = dn.Capacity(free_at_end=0.3, days=2)

Make = Callable[..., torch.optim.Optimizer]


# Optimizers that need more than parameters and a learning rate. They are functions of a module, so that checkpoints can
# compare them.
def matrices(parameters: list[nn.Parameter], *, of: Make, **settings: Any) -> torch.optim.Optimizer:
    """Make an optimizer of the matrices among the parameters."""
    return of([parameter for parameter in parameters if parameter.ndim == 2], **settings)


def marked(parameters: list[nn.Parameter], *, of: Make, **settings: Any) -> torch.optim.Optimizer:
    """Make one of pytorch_optimizer's kinds of Muon, which must be told which parameters are matrices."""
    groups = [
        {"params": [parameter for parameter in parameters if (parameter.ndim >= 2) is is_matrix], "use_muon": is_matrix}
        for is_matrix in (True, False)
    ]
    return of([group for group in groups if group["params"]], **settings)


def around(
    parameters: list[nn.Parameter], *, of: Make, inner: Make = torch.optim.Adam, lr: float = 1e-3
) -> torch.optim.Optimizer:
    """Make an optimizer that wraps another one."""
    return of(inner(parameters, lr=lr))


def twice(parameters: list[nn.Parameter], *, of: Make, lr: float = 1e-1, **settings: Any) -> torch.optim.Optimizer:
    """Make one of the kinds of SAM, which step twice, with a closure."""
    return of(parameters, base_optimizer=torch.optim.SGD, lr=lr, **settings)


def asking(parameters: list[nn.Parameter], *, of: Make, **settings: Any) -> torch.optim.Optimizer:
    """Make an optimizer that asks for a network beside its parameters."""
    return of(nn.ParameterList(parameters), parameters, base_optimizer=torch.optim.SGD, **settings)


SPECIAL: dict[str, Callable[[Any], Make]] = {
    "torch.optim.Muon": lambda kind: functools.partial(matrices, of=kind),
    "pytorch_optimizer.SpectralSphere": lambda kind: functools.partial(matrices, of=kind, solver_max_iterations=2),
    "pytorch_optimizer.CPUOffloadOptimizer": lambda kind: functools.partial(kind, optimizer_class=torch.optim.Adam),
    "pytorch_optimizer.Ranger21": lambda kind: functools.partial(kind, num_iterations=N_STEPS),
    "pytorch_optimizer.BSAM": lambda kind: functools.partial(kind, num_data=N_EXAMPLES),
    "pytorch_optimizer.WSAM": lambda kind: functools.partial(asking, of=kind),
    **{
        f"pytorch_optimizer.{name}": lambda kind: functools.partial(marked, of=kind)
        for name in ("AdaGO", "AdaMuon", "DistributedMuon", "Muon", "MuonClip", "NorMuon")
    },
    **{
        f"pytorch_optimizer.{name}": lambda kind: functools.partial(around, of=kind)
        for name in (
            "Lookahead", "OrthoGrad", "PCGrad", "SafeFP16Optimizer", "ScheduleFreeWrapper", "TRAC",
        )
    },
    **{
        f"schedulefree.{name}": lambda kind: functools.partial(around, of=kind)
        for name in ("ScheduleFreeWrapper", "ScheduleFreeWrapperReference")
    },
    **{
        f"pytorch_optimizer.{name}": lambda kind: functools.partial(twice, of=kind)
        for name in ("FriendlySAM", "LookSAM", "SAM")
    },
}  # fmt: skip


def adam(parameters: list[nn.Parameter], lr: float = 1e-2) -> torch.optim.Optimizer:
    """Make the optimizer of the rows about schedulers and losses."""
    return torch.optim.Adam(parameters, lr=lr)


def sgd(parameters: list[nn.Parameter], lr: float = 1e-1) -> torch.optim.Optimizer:
    """Make an optimizer with a momentum, for schedulers that cycle it."""
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def half(step: int) -> float:
    """Return a factor of the learning rate."""
    return 0.99**step


def falling(step: int) -> float:
    """Return a factor by which the learning rate changes in a step."""
    return 0.99


def chained(optimizer: torch.optim.Optimizer, n_steps: int) -> Any:
    """Make a scheduler of two at once."""
    parts = [lr_scheduler.ConstantLR(optimizer, 0.5, 10), lr_scheduler.ExponentialLR(optimizer, 0.99)]
    return lr_scheduler.ChainedScheduler(parts, optimizer)


def in_turn(optimizer: torch.optim.Optimizer, n_steps: int) -> Any:
    """Make a scheduler of two in turn: a warm-up, and a decay."""
    parts = [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=10), lr_scheduler.CosineAnnealingLR(optimizer, n_steps)]
    return lr_scheduler.SequentialLR(optimizer, parts, [10])


def plateau(optimizer: torch.optim.Optimizer, n_steps: int) -> Any:
    """Make the scheduler that wants a measure at each step."""
    return lr_scheduler.ReduceLROnPlateau(optimizer)


def scheduled(optimizer: torch.optim.Optimizer, n_steps: int, *, kind: Any, by_steps: str = "", **settings: Any) -> Any:
    """Make a scheduler, with the number of steps as its argument `by_steps` if that is given."""
    return kind(optimizer, **settings, **({by_steps: n_steps} if by_steps else {}))


SCHEDULERS: dict[str, Any] = {
    "ChainedScheduler": chained,
    "ConstantLR": functools.partial(scheduled, kind=lr_scheduler.ConstantLR),
    "CosineAnnealingLR": functools.partial(scheduled, kind=lr_scheduler.CosineAnnealingLR, by_steps="T_max"),
    "CosineAnnealingWarmRestarts": functools.partial(
        scheduled, kind=lr_scheduler.CosineAnnealingWarmRestarts, T_0=20
    ),
    "CyclicLR": functools.partial(scheduled, kind=lr_scheduler.CyclicLR, base_lr=1e-2, max_lr=1e-1, step_size_up=10),
    "ExponentialLR": functools.partial(scheduled, kind=lr_scheduler.ExponentialLR, gamma=0.99),
    "LambdaLR": functools.partial(scheduled, kind=lr_scheduler.LambdaLR, lr_lambda=half),
    "LinearLR": functools.partial(scheduled, kind=lr_scheduler.LinearLR, by_steps="total_iters"),
    "MultiStepLR": functools.partial(scheduled, kind=lr_scheduler.MultiStepLR, milestones=[30, 60]),
    "MultiplicativeLR": functools.partial(scheduled, kind=lr_scheduler.MultiplicativeLR, lr_lambda=falling),
    "OneCycleLR": functools.partial(scheduled, kind=lr_scheduler.OneCycleLR, max_lr=1e-1, by_steps="total_steps"),
    "PolynomialLR": functools.partial(scheduled, kind=lr_scheduler.PolynomialLR, by_steps="total_iters"),
    "ReduceLROnPlateau": plateau,
    "SequentialLR": in_turn,
    "StepLR": functools.partial(scheduled, kind=lr_scheduler.StepLR, step_size=30),
}  # fmt: skip


def log_likelihood(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood."""
    return functional.nll_loss(outputs.log_softmax(1), targets)


def one_hot(targets: Tensor) -> Tensor:
    """Return labels (n,) as vectors (n, N_CLASSES)."""
    return functional.one_hot(targets, N_CLASSES).float()


def each_class_alone(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross-entropy of each class against the others."""
    return functional.binary_cross_entropy_with_logits(outputs, one_hot(targets))


def focal(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return torchvision's focal loss."""
    from torchvision.ops import sigmoid_focal_loss

    loss: Tensor = sigmoid_focal_loss(outputs, one_hot(targets), reduction="mean")
    return loss


def divergence(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence from smoothed labels."""
    return functional.kl_div(outputs.log_softmax(1), 0.9 * one_hot(targets) + 0.1 / N_CLASSES, reduction="batchmean")


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error from one-hot labels."""
    return functional.mse_loss(outputs, one_hot(targets))


def sine(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return a loss by the cosine similarity with one-hot labels."""
    return 1 - functional.cosine_similarity(outputs, one_hot(targets)).mean()


def quantile(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the pinball loss of the quantile 0.7."""
    rest = targets - outputs
    return torch.maximum(0.7 * rest, -0.3 * rest).mean()


def gaussian(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of normal distributions; outputs are means and logarithms of variances."""
    means, variances = outputs.chunk(2, dim=1)
    return functional.gaussian_nll_loss(means, targets, variances.exp())


class Tempered(nn.Module):
    """Cross-entropy with a temperature that is to be learnt: a loss with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss."""
        return functional.cross_entropy(outputs / self.log_temperature.exp(), targets)


#: By name: the loss, and what is learnt: "labels", "numbers" (2), or "spread" (2 numbers, by 4 outputs).
LOSSES: dict[str, tuple[Callable[[], Any], str]] = {
    "cross_entropy": (lambda: functional.cross_entropy, "labels"),
    "CrossEntropyLoss(label_smoothing=0.1)": (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), "labels"),
    "CrossEntropyLoss(weight)": (lambda: nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 1.0, 0.5])), "labels"),
    "nll_loss of log_softmax": (lambda: log_likelihood, "labels"),
    "MultiMarginLoss": (nn.MultiMarginLoss, "labels"),
    "BCE with logits, one against the rest": (lambda: each_class_alone, "labels"),
    "torchvision sigmoid_focal_loss": (lambda: focal, "labels"),
    "kl_div from smoothed labels": (lambda: divergence, "labels"),
    "mse_loss from one-hot labels": (lambda: squared, "labels"),
    "cosine_similarity with one-hot labels": (lambda: sine, "labels"),
    "a loss with a parameter of its own": (Tempered, "labels"),
    "mse_loss": (lambda: functional.mse_loss, "numbers"),
    "L1Loss": (nn.L1Loss, "numbers"),
    "HuberLoss": (nn.HuberLoss, "numbers"),
    "SmoothL1Loss": (nn.SmoothL1Loss, "numbers"),
    "PoissonNLLLoss": (nn.PoissonNLLLoss, "numbers"),
    "quantile (pinball)": (lambda: quantile, "numbers"),
    "gaussian_nll_loss, two outputs a target": (lambda: gaussian, "spread"),
}


@attrs.frozen(kw_only=True)
class Contestant:
    """What a row tries.

    Attributes:
        kind: ``"optimizer"``, ``"scheduler"`` or ``"loss"``.
        optimizer: Function of parameters, and of ``lr`` if there are rates.
        rates: Learning rates to choose from; None is the default.
        scheduler: See `daynight.Training`.
        loss: Function that returns the loss.
        learns: See `LOSSES`.
    """

    kind: str
    optimizer: Make = adam
    rates: tuple[float | None, ...] = (None,)
    scheduler: Any = None
    loss: Callable[[], Any] = lambda: None
    learns: str = "labels"


def contestants() -> dict[str, Contestant]:
    """Return all rows by their names."""
    found = {}
    for module, prefix in ((torch.optim, "torch.optim"), *((package, package.__name__) for package in OUTSIDE)):
        for name, kind in classes(module):
            make: Make = SPECIAL.get(f"{prefix}.{name}", lambda kind: kind)(kind)
            takes_rate = "lr" in inspect.signature(make).parameters or f"{prefix}.{name}" in SPECIAL
            rates = RATES if takes_rate and name not in ("Magma", "SpectralSphere") else RATES[:1]
            found[f"{prefix}.{name}"] = Contestant(kind="optimizer", optimizer=make, rates=rates)
    for name, scheduler in SCHEDULERS.items():
        optimizer = sgd if name in ("CyclicLR", "OneCycleLR") else adam
        found[f"lr_scheduler.{name}"] = Contestant(kind="scheduler", scheduler=scheduler, optimizer=optimizer)
    for name, (loss, learns) in LOSSES.items():
        found[f"loss: {name}"] = Contestant(kind="loss", loss=loss, learns=learns)
    return found


OUTSIDE: tuple[ModuleType, ...] = (pytorch_optimizer, schedulefree, prodigyopt, dadaptation)


def classes(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Yield the optimizers that a package offers, by their names in alphabetical order."""
    base = torch.optim.Optimizer
    for name, kind in sorted(inspect.getmembers(module, inspect.isclass)):
        is_scheduler = hasattr(kind, "get_lr") or name.endswith(("Scheduler", "LR"))
        is_own = module is torch.optim or not kind.__module__.startswith(("torch.optim.optimizer", "typing"))
        if kind is not base and is_own and not is_scheduler and hasattr(kind, "step"):
            yield name, kind


def tasks(learns: str) -> dn.TaskStream:
    """Return two tasks, each with validation data: where a point lies is learnt from its 8 coordinates."""
    found = []
    for index in range(2):
        generator = seeding.generator(0, "works", index)
        inputs = torch.randn(2 * N_EXAMPLES, N_FEATURES, generator=generator)
        first, second, third = (inputs[:, index * 3 + column] for column in range(3))
        labels = (first > 0).long() * 2 + (second * third > 0).long()
        targets = labels if learns == "labels" else torch.stack([first.abs(), (second * third).abs()], 1)
        train, rest = ((inputs[part], targets[part]) for part in (slice(N_EXAMPLES), slice(N_EXAMPLES, None)))
        n_outputs = 2 if learns == "numbers" else 4
        found.append(dn.Task(train=train, validation=rest, test=rest, name=f"{learns} {index}", n_outputs=n_outputs))
    return dn.TaskStream(found)


def score(outputs: Tensor, targets: Tensor) -> float:
    """Return the accuracy, or for regression the coefficient of determination of the first columns."""
    if not targets.is_floating_point():
        return float((outputs.argmax(1) == targets).float().mean())
    error = (outputs[:, : targets.shape[1]] - targets).square().mean()
    return float(1 - error / targets.var(0).mean())


def training(contestant: Contestant, rate: float | None, **settings: Any) -> dn.Training:
    """Return the settings of a row."""
    make = contestant.optimizer if rate is None else functools.partial(contestant.optimizer, lr=rate)
    return dn.Training(
        batch_size=BATCH, optimizer=make, scheduler=contestant.scheduler, loss=contestant.loss(), metric=score,
        **settings,
    )  # fmt: skip


def agent_of(settings: dn.Training) -> dn.Agent:
    """Return a new agent."""
    return dn.Agent(lambda: dn.models.MLP(N_FEATURES, 32, 32), capacity=CAPACITY, training=settings)


def clock_of(agent: dn.Agent, stream: dn.TaskStream, **settings: Any) -> dn.Clock:
    """Return a clock whose wakes and nights are as long as the plain loop."""
    return dn.Clock(
        agent, stream, policy=dn.OneShot(), wake=dn.Steps(N_STEPS), night=dn.Steps(N_STEPS), **settings
    )  # fmt: skip


class Plain:
    """The same training in plain PyTorch.

    Args:
        task: What it learns.
        settings: How.
        noise: If it is not 0, the seed of changes of the first weights, as small as those by rounding.
    """

    def __init__(self, task: dn.Task, settings: dn.Training, noise: int = 0) -> None:
        self.task, self.settings, self.loss = task, settings, settings.loss_of(task)
        twin = agent_of(settings)
        with seeding.forked(twin.seed, "head", 0):
            twin.network.begin_day(task.n_outputs)
        self.module = twin.network.module
        if noise:
            generator = seeding.generator(0, "noise", noise)
            for parameter in self.module.parameters():
                parameter.data.mul_(1 + 1e-7 * torch.randn(parameter.shape, generator=generator))
        self.optimizer = settings.optimizer(list(self.module.parameters()))

    def train(self, phase: str, masks: dict[str, Tensor] | None = None) -> None:
        """Take the steps of a phase, in which weights that `masks` leaves out stay zero."""
        inputs, targets = self.task.train.load()
        batches = HeldBatches(inputs, targets, BATCH, seeding.generator(0, phase, 0, "order"))
        scheduler = self.settings.scheduler and self.settings.scheduler(self.optimizer, N_STEPS)
        self.module.train()
        switch(self.optimizer, "train")
        with seeding.forked(0, phase, 0, 0):  # some optimizers draw random numbers
            for _ in range(N_STEPS):
                x, y = batches.next()
                self.optimizer.zero_grad()
                self.loss(self.module(x), y).backward()
                self._hold(masks)
                self.optimizer.step()
                self._hold(masks)
                if scheduler:
                    scheduler.step()
        switch(self.optimizer, "eval")
        self._hold(masks)

    def score(self) -> float:
        """Return the score on validation data."""
        assert self.task.validation is not None
        inputs, targets = self.task.validation.load()
        with torch.no_grad():
            return score(self.module.eval()(inputs), targets)

    def _hold(self, masks: dict[str, Tensor] | None) -> None:
        for name, mask in (masks or {}).items():
            weight = self.module.get_parameter(f"{name}.weight")
            for tensor in (weight.data, weight.grad):
                if tensor is not None:
                    tensor.mul_(mask)


def switch(optimizer: torch.optim.Optimizer, mode: str) -> None:
    """Call an optimizer's method `mode`, ``"train"`` or ``"eval"``, if it has one."""
    if callable(change := getattr(optimizer, mode, None)):
        change()


def best_rate(contestant: Contestant, task: dn.Task) -> tuple[float | None, str]:
    """Return the rate with which the plain loop scores best, and the error if it fails with all of them."""
    found: dict[float | None, float] = {}
    failure = ""
    for rate in contestant.rates:
        try:
            plain = Plain(task, training(contestant, rate))
            plain.train("wake")
            found[rate] = plain.score()
        except Exception as error:
            failure = rows.one_line(error)
    return (max(found, key=lambda rate: found[rate]), "") if found else (contestant.rates[0], failure)


def moves_without_gradient(make: Make) -> str:
    """Say how an optimizer moves numbers whose gradient is zero; in plain PyTorch, on two matrices and a vector."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape)) for shape in ((8, 8), (8, 8), (8,))]
    marks = [torch.arange(parameter.numel()).reshape(parameter.shape) % 4 for parameter in parameters]
    with torch.no_grad():
        for parameter, mark in zip(parameters, marks, strict=True):
            parameter[mark == 1] = 0
    optimizer = make(parameters)
    switch(optimizer, "train")
    for step in range(8):
        if step == 4:
            with torch.no_grad():
                for parameter, mark in zip(parameters, marks, strict=True):
                    parameter[mark == 3] = 0  # which decay does not move
            before = [parameter.detach().clone() for parameter in parameters]
        for parameter, mark in zip(parameters, marks, strict=True):
            has_one = (mark == 0) | ((mark == 3) & (step < 4))
            parameter.grad = torch.where(has_one, torch.randn(parameter.shape), 0)
        optimizer.step()

    def moved(number: int) -> bool:
        known = zip(parameters, marks, before, strict=True)
        return any(bool((parameter.detach() != old)[mark == number].any()) for parameter, mark, old in known)

    # Numbers marked 1 are zero and never have a gradient; those marked 2 are not zero; those marked 3 had a gradient.
    if moved(1):
        return "mixes"
    return ", ".join(name for name, number in (("decay", 2), ("momentum", 3)) if moved(number)) or "no"


class Stopper:
    """A hook that asks its run to stop, as Ctrl-C does, once in the wake and once in the night of the second day."""

    def __init__(self, phase: str) -> None:
        self._phase = phase

    def __call__(self, event: dn.Record | dn.Progress) -> None:
        """Ask when steps of the phase have been taken."""
        if isinstance(event, dn.Progress) and (event.day, event.phase) == (1, self._phase) and event.loss == event.loss:
            signal.raise_signal(signal.SIGINT)


def resumed(make_agent: Callable[[], dn.Agent], stream: dn.TaskStream) -> dn.Agent:
    """Return the agent of a run that is stopped twice, and resumed with new objects each time."""
    with tempfile.TemporaryDirectory() as folder:
        for phase in ("wake", "rem"):
            n_asked = len(stream)
            try:
                clock_of(make_agent(), stream, checkpoint=folder, every=0, on_event=Stopper(phase)).run()
            except KeyboardInterrupt:
                n_asked = 0
            assert not n_asked, "the run did not stop"
        agent = make_agent()
        clock_of(agent, stream, checkpoint=folder, every=0).run()
    return agent


def state_of(agent: dn.Agent) -> dict[str, Tensor]:
    """Return all tensors of an agent's network."""
    return {name: tensor.clone() for name, tensor in agent.network.state().items()}


def is_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return whether the tensors of two networks are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def free_are_zero(agent: dn.Agent) -> bool:
    """Return whether all free weights are exactly zero, and as many weights are owned as the capacity says."""
    network = agent.network
    are_zero = all(
        not bool(network.weights[name].detach()[owner == FREE].any()) for name, owner in network.owners.items()
    )
    totals = [record.owned for record in agent.days]
    return are_zero and all(n == record for n, record in zip(agent.owned, totals, strict=True))


def live(contestant: Contestant, note: rows.Note) -> None:
    """Find out the columns of one row."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    note(kind=contestant.kind, doing="the plain loop")
    try:
        stream = tasks(contestant.learns)
    except DaynightError as error:
        note(accepted=rows.one_line(error), verdict=refusal(error, "", ""))
        return
    rate, plain_error = best_rate(contestant, stream[0])
    note(rate="" if rate is None else rate, **({"plain error": plain_error} if plain_error else {}))
    if contestant.kind == "optimizer" and not plain_error:
        make = training(contestant, rate).optimizer
        note(doing="steps without gradient")
        try:
            note(**{"moves without gradient": moves_without_gradient(make)})
        except Exception as error:
            note(**{"moves without gradient": rows.one_line(error)})
    settings = training(contestant, rate)
    note(doing="the check")
    try:
        agent = agent_of(settings)
        clock_of(agent, stream).check()
    except Exception as error:
        note(accepted=rows.one_line(error), verdict=refusal(error, "", plain_error))
        return
    note(doing="the two days")
    try:
        facts = two_days(agent, stream, contestant, settings, note)
    except Exception as error:
        note(accepted=rows.one_line(error), verdict=refusal(error, " late", plain_error))
        return
    note(accepted="yes", verdict=verdict(facts))


def refusal(error: Exception, when: str, plain_error: str) -> str:
    """Return the verdict on an error."""
    what = f"refused{when}" if isinstance(error, DaynightError) else "raw error"
    return f"{what}: {f'fails in a plain loop, too: {plain_error}' if plain_error else rows.one_line(error)}"


def two_days(
    agent: dn.Agent, stream: dn.TaskStream, contestant: Contestant, settings: dn.Training, note: rows.Note
) -> dict[str, Any]:
    """Run two days, alone and stopped, and return what was found."""
    inputs, targets = stream[0].test.load()
    clock = clock_of(agent, stream)
    own_loss = settings.loss if isinstance(settings.loss, nn.Module) else None
    of_loss = [] if own_loss is None else [parameter.detach().clone() for parameter in own_loss.parameters()]
    clock.to_dusk()
    facts: dict[str, Any] = {"score": score(agent.predict(inputs, 0), targets)}
    at_dusk = copies(agent.network.module)
    clock.step()
    at_dawn = agent.predict(inputs, 0)
    facts["dawn"] = score(at_dawn, targets)
    zeros = free_are_zero(agent)
    masks = {name: owner == 0 for name, owner in agent.network.owners.items()}
    note(**facts, doing="the plain loop at night")
    plain = Plain(stream[0], training(contestant, rate_of(settings)))
    plain.train("wake")
    facts["distance"] = distance(at_dusk, plain.module)
    if not facts["distance"] <= FAR:
        # Some optimizers amplify rounding: so much does it change the plain loop.
        facts["by rounding"] = 0.0
        for seed in range(1, 4):
            other = Plain(stream[0], training(contestant, rate_of(settings)), noise=seed)
            other.train("wake")
            facts["by rounding"] = max(facts["by rounding"], distance(copies(other.module), plain.module))
    facts["plain score"] = plain.score()
    plain.train("night", masks)
    facts["plain dawn"] = plain.score()
    note(**facts, doing="the second day")
    clock.run()
    facts["frozen"] = torch.equal(agent.predict(inputs, 0), at_dawn)
    try:
        agent.verify()
    except DaynightError:
        facts["frozen"] = False
    facts["zeros"] = zeros and free_are_zero(agent)
    if of_loss:
        assert own_loss is not None
        facts["trains loss"] = any(not torch.equal(*pair) for pair in zip(own_loss.parameters(), of_loss, strict=True))
    note(frozen=facts["frozen"], zeros=facts["zeros"], doing="stopping and resuming")
    make_agent = functools.partial(agent_of, settings)
    try:
        facts["resumed"] = is_equal(state_of(agent), state_of(resumed(make_agent, stream)))
    except Exception as error:
        what = "refused" if isinstance(error, DaynightError) else "raw error"
        facts["resumed"] = f"{what}: {rows.one_line(error)}"
    note(resumed=facts["resumed"])
    if not facts["dawn"] >= facts["plain dawn"] - NIGHT_SLACK:
        note(doing="a night that carries its optimizer")
        facts["carried"] = carried(contestant, settings, stream[0])
    return facts


def copies(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's tensors by name."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def distance(tensors: dict[str, Tensor], module: nn.Module) -> float:
    """Return how far tensors are from those of a module, in units of the norm of these."""
    there = module.state_dict()
    square = sum(float((there[name] - tensors[name]).square().sum()) for name in there)
    return (square / sum(float(value.square().sum()) for value in there.values())) ** 0.5


def rate_of(settings: dn.Training) -> float | None:
    """Return the learning rate of a row's optimizer; None is its default."""
    return settings.optimizer.keywords.get("lr") if isinstance(settings.optimizer, functools.partial) else None


def carried(contestant: Contestant, settings: dn.Training, task: dn.Task) -> float:
    """Return the score at dawn if one optimizer serves all cycles of a night, of which there are four."""
    agent = agent_of(attrs.evolve(settings, carry_optimizer=True))
    agent.wake(task, dn.Steps(N_STEPS))
    agent.sleep(dn.UniformCycles(4), dn.Steps(N_STEPS))
    inputs, targets = task.test.load()
    return score(agent.predict(inputs, 0), targets)


def verdict(facts: dict[str, Any]) -> str:
    """Return the verdict on a row that was accepted."""
    wrong = []
    if not facts["frozen"]:
        wrong.append("frozen bits have moved")
    if not facts["zeros"]:
        wrong.append("free weights are not zero")
    if facts["resumed"] is False:
        wrong.append("resumes with other bits")
    if facts.get("trains loss") is False:
        wrong.append("the loss's own parameters are not trained")
    if not facts["distance"] <= max(FAR, 10 * facts.get("by rounding", 0)):
        wrong.append(f"other weights at dusk than those of the plain loop (distance {facts['distance']:.2g})")
    if not facts["score"] >= facts["plain score"] - SLACK:
        wrong.append(f"scores {facts['score']:.2f}, the plain loop {facts['plain score']:.2f}")
    if wrong:
        return "wrong in silence: " + "; ".join(wrong)
    if facts["resumed"] is not True:
        text = str(facts["resumed"])
        return text if text.startswith("raw error") else f"works, with no checkpoint: {text}"
    if not facts["dawn"] >= facts["plain dawn"] - NIGHT_SLACK:
        is_mended = facts["carried"] >= facts["plain dawn"] - NIGHT_SLACK
        return (
            f"works, with {'carry_optimizer=True' if is_mended else 'a loss at night'}: "
            f"{facts['dawn']:.2f} at dawn, {facts['carried']:.2f} carried, {facts['plain dawn']:.2f} plain"
        )
    return "works"


def main() -> None:
    """Fill the table."""
    settings = rows.arguments(__doc__, seconds=100).parse_args()
    torch.set_num_threads(1)
    trials = {name: functools.partial(live, contestant) for name, contestant in contestants().items()}
    rows.fill(trials, COLUMNS, PACKAGES, settings)


if __name__ == "__main__":
    main()
