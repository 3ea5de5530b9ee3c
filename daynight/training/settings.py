"""`Training`: the settings by which a task is learnt."""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor, nn
from torch.nn import functional

from daynight import metrics
from daynight.data.replay import Replay
from daynight.data.tasks import Task
from daynight.errors import SettingError
from daynight.nights.budgets import check_budget
from daynight.support import checks, threads
from daynight.training.together import Together

OptimizerFactory = Callable[[Any], torch.optim.Optimizer | Sequence[torch.optim.Optimizer]]
SchedulerFactory = Callable[[torch.optim.Optimizer, int], torch.optim.lr_scheduler.LRScheduler]
Transform = Callable[[Tensor], Tensor]
EngineName = Literal["auto", "dense", "sparse", "module"]
NormStatistics = Literal["running", "anew"]
#: Settings that were added after the first files were written.
LATER = ("norm_statistics", "accumulate")
#: Losses of examples that may have several labels, and the output above which each says that a label is there.
_OF_SEVERAL_LABELS = (
    (nn.BCEWithLogitsLoss, 0.0), (functional.binary_cross_entropy_with_logits, 0.0),
    (nn.MultiLabelSoftMarginLoss, 0.0), (functional.multilabel_soft_margin_loss, 0.0),
    (nn.BCELoss, 0.5), (functional.binary_cross_entropy, 0.5),
)  # fmt: skip


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the paper's optimizer: Adam with a learning rate of 1e-3, in its fused form."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def _batch_size(n: Any) -> int:
    return checks.integer("Training: batch_size", n, least=1)


def _first_parameter(function: Any) -> str:
    try:
        return next(iter(inspect.signature(function).parameters), "")
    except (TypeError, ValueError):  # a function that is written in C
        return ""


def _accumulate(n: Any) -> int:
    return checks.integer("Training: accumulate", n, least=1)


def _check_callable(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and not callable(value):
        raise SettingError(f"Training: {attribute.name} must be a function, not {value!r}.")


def _check_metric(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not metrics.accumulates(value):
        _check_callable(instance, attribute, value)


def _check_factory(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not callable(value):
        raise SettingError(f"Training: {attribute.name} must be a function of parameters, not {value!r}.")


def _check_flag(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    checks.flag(f"Training: {attribute.name}", value)


def _clip_norm(value: Any) -> float:
    return checks.positive("Training: clip_norm", value)


def _check_autocast(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value not in (None, torch.bfloat16):
        raise SettingError(
            f"Training: autocast must be torch.bfloat16 or None, not {value!r}."
            f"{' Gradients of float16 need scaling, which is not supported.' if value is torch.float16 else ''}"
        )


def _check_engine(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    checks.one_of("Training: engine", value, get_args(EngineName))


def _check_statistics(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    checks.one_of("Training: norm_statistics", value, get_args(NormStatistics))


@attrs.frozen(kw_only=True)
class Training:
    """How a task is learnt, at wake and in REM.

    Args:
        batch_size: Examples per batch, 1 or more; the last batch of an epoch may be smaller.
        optimizer: Function of parameters to an optimizer, or to a list of optimizers that share the parameters among
            them, called at each wake and at each REM. If its first parameter is called ``named_parameters``, it gets
            pairs of name and parameter.
        scheduler: Function of an optimizer and its number of steps to a learning-rate scheduler, which is stepped after
            each optimizer step. None keeps the rate constant.
        loss: Function of (outputs, targets) to a scalar, the mean over a batch. None is cross-entropy
            for class labels and mean squared error for regression.
        metric: Function of (outputs, targets) of a whole split to a number; or an object with ``reset``, ``update`` and
            ``compute``, as those of torchmetrics, which is reset before and after each use. None is the accuracy for
            class labels, the share of labels that are right if the loss is PyTorch's for several labels an example, and
            the coefficient of determination for other regression. A loss or metric whose first parameter is called
            ``y_true`` or ``targets``, as in scikit-learn, is called with (targets, outputs); see `docs/optimizers.rst`.
        transform: Applied to each batch of inputs, in training and prediction, such as a normalisation.
        augment: Applied to each batch of inputs in training, before `transform`. What it draws from
            the global generators of PyTorch, NumPy or Python is seeded.
        carry_optimizer: Whether one optimizer (and scheduler) serves all cycles of a night, with the state of pruned
            weights cleared. If not, each REM has a new one.
        clip_norm: Largest norm, above 0, of the gradient by all numbers that may move: a larger gradient is scaled down
            before the step. None does not limit the norm.
        autocast: With `torch.bfloat16`, training steps compute in this type if possible (see `torch.autocast`), while
            weights keep their type; the engine is then ``"module"``. Predictions are in the weights' own type.
        accumulate: Batches per optimizer step, 1 or more. Gradients are averaged over the examples of all of them, so
            that a step is that of a batch so many times larger, in the memory of one batch. The last step of an epoch
            may have fewer. Budgets and schedulers count optimizer steps.
        engine: What computes the optimizer steps. All engines give the same gradients, except for rounding. ``"auto"``
            chooses for each layer and phase by shapes and density; ``"dense"`` and ``"sparse"`` force that engine if
            possible; ``"module"`` runs the network itself by autograd, and leaves nothing out.
        norm_statistics: Where the running statistics of batch norm come from at dawn. ``"running"``: from the steps of
            the night; if no step has followed the last prune, they are taken anew, in one pass over up to 256 training
            examples. ``"anew"``: they are always taken anew, which is better if nights are short or prune much.

    Raises:
        SettingError: If a number is outside its range, a function cannot be called, or an engine or type is not valid.
    """

    batch_size: int = attrs.field(default=128, converter=_batch_size)
    optimizer: OptimizerFactory = attrs.field(default=adam, validator=_check_factory)
    scheduler: SchedulerFactory | None = attrs.field(default=None, validator=_check_callable)
    loss: Callable[[Tensor, Tensor], Tensor] | None = attrs.field(default=None, validator=_check_callable)
    metric: Callable[[Tensor, Tensor], float] | None = attrs.field(default=None, validator=_check_metric)
    transform: Transform | None = attrs.field(default=None, validator=_check_callable)
    augment: Transform | None = attrs.field(default=None, validator=_check_callable)
    carry_optimizer: bool = attrs.field(default=False, validator=_check_flag)
    clip_norm: float | None = attrs.field(default=None, converter=attrs.converters.optional(_clip_norm))
    autocast: torch.dtype | None = attrs.field(default=None, validator=_check_autocast)
    engine: EngineName = attrs.field(default="auto", validator=_check_engine)
    norm_statistics: NormStatistics = attrs.field(default="running", validator=_check_statistics)
    accumulate: int = attrs.field(default=1, converter=_accumulate)

    @property
    def is_by_module(self) -> bool:
        """Whether the network itself computes the steps, by autograd."""
        return self.engine == "module" or self.autocast is not None

    def settings(self) -> dict[str, Any]:
        """Return the settings by name, for files; without those that older files do not have, if they are default."""
        usual = {field.name: field.default for field in attrs.fields(Training)}
        found = attrs.asdict(self, recurse=False)
        return {name: value for name, value in found.items() if name not in LATER or value != usual[name]}

    def own_per_batch(self, replay: Replay | None) -> int:
        """Return how many examples of a whole batch are of the day, if `replay` says how many are of past days."""
        return self.batch_size - (0 if replay is None else replay.n_in(self.batch_size))

    def steps_per_epoch(self, task: Task, replay: Replay | None = None) -> int:
        """Count the optimizer steps of one epoch of `task`, which is one pass over its own training data.

        Args:
            task: The task.
            replay: How many examples of past days are in each batch; None if there are none.
        """
        return -(-len(task.train) // (self.own_per_batch(replay) * self.accumulate))

    def check_budget(self, name: str, budget: Any) -> None:
        """Raise SettingError unless `budget` is a budget that goes with these settings.

        A scheduler needs the number of steps, which is unknown for a budget in time.
        """
        check_budget(name, budget)
        if self.scheduler is not None and budget.open(1).n_steps is None:
            raise SettingError(
                f"{name}, {budget!r}, does not go with Training(scheduler=...): that is called with the number of "
                "steps, which is unknown in a budget of time. Give Epochs or Steps, or no scheduler."
            )

    def loss_of(self, task: Task) -> Callable[[Tensor, Tensor], Tensor]:
        """Return the loss for `task`; in a union of tasks, each example's loss uses the outputs of its own task."""
        usual = functional.cross_entropy if task.classifies else functional.mse_loss
        loss = usual if self.loss is None else metrics.adapted(self.loss)
        return metrics.WithinGroups(loss, task.groups) if task.groups else loss

    def metric_of(self, task: Task) -> Callable[[Tensor, Tensor], float]:
        """Return the metric for `task`."""
        usual = metrics.accuracy if task.classifies else self._metric_of_several()
        metric = usual if self.metric is None else metrics.adapted(self.metric)
        return metrics.WithinGroups(metric, task.groups) if task.groups else metric

    def judge(self, task: Task, outputs: Tensor, targets: Tensor) -> tuple[float, float]:
        """Return loss and metric of outputs of `task`.

        Raises:
            SettingError: If the loss or the metric fails, or does not return a single number.
        """
        loss = number("loss", self.loss_of(task), outputs, targets)
        return loss, number("metric", self.metric_of(task), outputs, targets)

    def _metric_of_several(self) -> Callable[[Tensor, Tensor], float]:
        """Return the usual metric for floating-point targets, which depends on the loss."""
        loss = self.loss
        while isinstance(loss, functools.partial):
            loss = loss.func
        for kind, threshold in _OF_SEVERAL_LABELS:
            if loss is kind or (isinstance(kind, type) and isinstance(loss, kind)):
                return functools.partial(metrics.label_accuracy, threshold=threshold)
        return metrics.r_squared

    def make_optimizer(self, parameters: list[nn.Parameter], names: Sequence[str] = ()) -> torch.optim.Optimizer:
        """Make an optimizer.

        Args:
            parameters: The parameters.
            names: Their names in the network, for a function that asks for them.

        Raises:
            SettingError: If `optimizer` fails, or does not make an optimizer of these parameters that steps without a
                closure.
        """
        given: Any = parameters
        if _first_parameter(self.optimizer) == "named_parameters":
            given = list(zip(names or map(str, range(len(parameters))), parameters, strict=True))
        try:
            made = self.optimizer(given)
        except Exception as error:
            raise SettingError(f"Training: optimizer failed to make one: {error!r}") from error
        parts: list[Any] = list(made) if isinstance(made, list | tuple) and made else [made]
        for part in parts:
            if not isinstance(part, torch.optim.Optimizer) or isinstance(part, torch.optim.LBFGS):
                raise SettingError(
                    "Training: optimizer must make a torch.optim.Optimizer, or a list of them, that steps without a "
                    f"closure, not {type(part).__name__}.", page="optimizers",
                )  # fmt: skip
        optimizer: torch.optim.Optimizer = parts[0]
        if len(parts) > 1:
            trained = [id(p) for part in parts for group in part.param_groups for p in group["params"]]
            if len(trained) > len(set(trained)):
                raise SettingError(
                    "Training: optimizer makes several optimizers, and two of them train the same parameter. Give each "
                    "parameter to one of them.", page="optimizers",
                )  # fmt: skip
            optimizer = Together(parts)
        known = {id(parameter) for parameter in parameters}
        given = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if not given <= known or not given & known:
            raise SettingError(
                "Training: optimizer must train the parameters that it is called with, or some of them, and no others."
            )
        return optimizer

    def make_scheduler(self, optimizer: torch.optim.Optimizer, n_steps: int) -> Any:
        """Make a scheduler for an optimizer that takes `n_steps` steps; return None without `scheduler`.

        Raises:
            SettingError: If `scheduler` fails, or does not make a scheduler of this optimizer.
        """
        if self.scheduler is None:
            return None
        for group in optimizer.param_groups:
            # A scheduler writes into a rate that is a tensor, which may be the user's own and serve later optimizers.
            group.update({name: value.clone() for name, value in group.items() if isinstance(value, Tensor)})
        try:
            scheduler = self.scheduler(optimizer, n_steps)
        except Exception as error:
            raise SettingError(f"Training: scheduler failed to make one: {error!r}") from error
        if getattr(scheduler, "optimizer", None) is not optimizer:
            raise SettingError(
                "Training: scheduler must make a learning-rate scheduler of the optimizer that it is called with, not "
                f"{scheduler!r}."
            )
        return scheduler


def number(name: str, function: Callable[[Tensor, Tensor], Any], outputs: Tensor, targets: Tensor) -> float:
    """Return the number that a loss or a metric gives for outputs and targets.

    Raises:
        SettingError: If the function fails, or does not return a single number.
    """
    try:
        value = function(outputs, targets)
        if isinstance(value, Tensor) and value.is_complex():
            raise ValueError("it is complex; take its real part, or its abs()")
        return float(value.detach() if isinstance(value, Tensor) else value)
    except Exception as error:
        raise SettingError(
            f"Training: the {name} must give one number for outputs {tuple(outputs.shape)} and targets "
            f"{tuple(targets.shape)}. It failed: {error!r}{_remedy(name, function, outputs, targets)}"
        ) from error


def _remedy(name: str, function: Callable[[Tensor, Tensor], Any], outputs: Tensor, targets: Tensor) -> str:
    """Return what to do about a loss or a metric that gives no number, with a full stop before it; empty if unknown."""
    given = metrics.given(function)
    if isinstance(given, type):
        kind = given.__name__
        return f". It is a class: make an instance of it and give that, such as {name}={kind}(...)."
    with contextlib.suppress(Exception), threads.quiet():
        value = function(outputs.detach().clone(), targets)
        if getattr(value, "ndim", 0) and math.prod(value.shape) > 1:
            pytorch = ', or give a loss of PyTorch reduction="mean"' if name == "loss" else ""
            return f". It returned {tuple(value.shape)} values: return their mean{pytorch}."
    if targets.is_floating_point():
        return ""
    is_of_labels = name == "metric" and not metrics.accumulates(given)
    with contextlib.suppress(Exception), threads.quiet():
        if is_of_labels and math.isfinite(metrics.OfLabels(given)(outputs.detach(), targets)):
            part = getattr(given, "func", given)
            called = getattr(part, "__name__", type(part).__name__)
            return f". It compares classes: give daynight.metrics.OfLabels({called}), with its settings as keywords."
    return ". Whole-number targets are labels; for regression, give floating-point targets."
