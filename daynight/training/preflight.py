"""`preflight`: whether a task, a network and settings work together, tried on a few examples without training."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.func import functional_call

from daynight.data.splits import LazyInputs, Split, load
from daynight.data.tasks import Task, titled
from daynight.errors import DataError, NetworkError, SettingError
from daynight.networks import trials
from daynight.networks.masked import MaskedNetwork
from daynight.networks.prediction import padded
from daynight.support import checks, interrupts, seeding, threads
from daynight.training.passed import Passed
from daynight.training.settings import Training, number
from daynight.training.together import held_by, set_mode

#: Errors that PyTorch raises for inputs that a module cannot read.
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError)


def probe(network: MaskedNetwork, inputs: Tensor, n_outputs: int) -> Tensor:
    """Run a network twice on `inputs`, and check that both outputs have the right shape and are equal.

    Args:
        network: The network.
        inputs: (batch, ...), as the network reads them.
        n_outputs: Number of outputs of the head.

    Returns:
        The outputs, (batch, n_outputs).

    Raises:
        NetworkError: If the network fails, or the outputs have another shape or differ.
    """
    with interrupts.deferred(), _trying(network, n_outputs) as run, torch.no_grad():
        try:
            outputs, again = (run(inputs.clone()) for _ in range(2))
            run(padded(inputs[:1], len(inputs)))  # as the last chunk of a prediction is filled up
        except _FAILURES as error:
            whole = "" if inputs.is_floating_point() else "Whole numbers are indices: make others floating point. "
            if not isinstance(error, RuntimeError):
                whole += (
                    "If its forward takes several tensors, or a dict or tuple of them, wrap it in a module whose "
                    "forward takes one tensor and takes it apart. "
                )
            raise NetworkError(
                f"the network cannot read inputs of shape {tuple(inputs.shape[1:])}, {inputs.dtype}: {error}. {whole}"
                "Give inputs of the shape and type that its first layer takes, and name the layer that makes the "
                f"outputs with head=, if it is not {network.anatomy.head!r}."
            ) from error
    if not isinstance(outputs, Tensor):
        part = ".logits" if hasattr(outputs, "logits") else "[0]" if isinstance(outputs, list | tuple) else "['out']"
        raise NetworkError(
            f"the network gives {type(outputs).__name__}, and must give one tensor {(len(inputs), n_outputs)} for a "
            f"batch of {len(inputs)}. Wrap it in a module whose forward returns that tensor, such as "
            f"self.network(inputs){part}."
        )
    shape = tuple(outputs.shape)
    if shape != (len(inputs), n_outputs):
        raise NetworkError(
            f"with {n_outputs} outputs asked of the head {network.anatomy.head!r}, the network gives {shape} "
            f"for a batch of {len(inputs)}, and must give {(len(inputs), n_outputs)}. Name the module that makes the "
            "outputs with head=, or take away what reshapes them after it, such as squeeze."
        )
    if not torch.equal(outputs, again) and checks.all_finite(outputs):
        raise NetworkError(
            "the network gives other outputs for equal inputs in evaluation mode, so that no prediction could be kept. "
            "Let it draw random numbers in training only, as in functional.dropout(x, training=self.training)."
        )
    return outputs


def try_step(
    network: MaskedNetwork, inputs: Tensor, n_outputs: int, loss: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Compute gradients in training mode.

    Args:
        network: The network.
        inputs: (batch, ...), as the network reads them; two or more.
        n_outputs: Number of outputs of the head.
        loss: Function of the outputs to a scalar.

    Returns:
        Copies of the parameters that are trained, with their gradients, by name.

    Raises:
        NetworkError: If PyTorch fails to compute them.
    """
    with interrupts.deferred(), _trying(network, n_outputs) as run:
        network.module.train()
        named = network.module.named_parameters()
        parameters = {name: p.detach().clone().requires_grad_(p.requires_grad) for name, p in named}
        try:
            loss(run(inputs.clone(), parameters)).backward()
        except _FAILURES as error:
            raise NetworkError(
                f"no gradients can be computed of the network in training mode: {error}. If that is not one of its "
                "own errors, look for operations in place on values that a gradient needs later."
            ) from error
    return {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}


def trains_on(network: MaskedNetwork, inputs: Tensor, n_outputs: int) -> bool:
    """Return whether a network's norm layers can train on `inputs`.

    Args:
        network: The network.
        inputs: (batch, ...), as the network reads them.
        n_outputs: Number of outputs of the head.
    """
    with interrupts.deferred(), _trying(network, n_outputs) as run, torch.no_grad():
        network.module.train()
        try:
            run(inputs)
        except ValueError:  # batch normalisation of one value
            return False
    return True


@contextlib.contextmanager
def _trying(network: MaskedNetwork, n_outputs: int) -> Iterator[Callable[..., Any]]:
    """Yield a function that runs a network with a new head, in evaluation mode at first, without changing it.

    Draws from PyTorch's global generator.

    Args:
        network: The network.
        n_outputs: Number of outputs of the head.

    Yields:
        A function of inputs (batch, ...) and, optionally, parameters by name, which replace the network's own.

    Raises:
        NetworkError: If the head cannot be made.
    """

    def run(inputs: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Any:
        # On copies, since a network may write to its parameters, too.
        own = {name: tensor.detach().clone() for name, tensor in network.module.named_buffers()}
        if parameters is None:
            parameters = {name: tensor.detach().clone() for name, tensor in network.module.named_parameters()}
        return functional_call(network.module, own | dict(parameters), (inputs,))

    with network.heads.lent(network.heads.new(n_outputs)):
        network.heads.new(n_outputs)  # a function that returns the same head twice is refused before the first day
        yield run


#: Number of examples to try. It is not a common number of outputs, so that a loss that confuses the two is noticed.
N_EXAMPLES = 7


def preflight(
    network: MaskedNetwork, training: Training, task: Task, day: int, seed: int, device: torch.device, passed: Passed,
    replays: bool = False,
) -> None:  # fmt: skip
    """Raise an error unless a task, a network and settings work together, on a few examples.

    Nothing is trained and nothing is changed.

    Args:
        network: The network.
        training: The settings.
        task: The task.
        day: Index of the day, from 0.
        seed: Names the random numbers that are drawn.
        device: The network's device.
        passed: What has passed before: whether a step works is tried once for all tasks of a form.
        replays: Whether each batch has an example of past days besides those of the task.

    Raises:
        NetworkError: If the network cannot read the inputs, or make the task's outputs.
        SettingError: If a function of `training` fails, or does not return what it should.
        DataError: If a batch is too small to train on.
    """
    # A loss or a metric may keep values from call to call.
    copied = attrs.evolve(training, loss=copy_of(training.loss), metric=copy_of(training.metric))
    index = torch.arange(N_EXAMPLES) % len(task.train)
    inputs, targets = load(task.train.subset(index), network.dtype, device)
    with seeding.forked(seed, "probe", device=device):
        form = (inputs.shape, inputs.dtype, targets.shape, targets.dtype, task.n_outputs, task.classifies)
        _try_settings(network, copied, task, inputs, targets, steps=not passed.knows_form(training, form))
        passed.note_form(training, form)
        if not replays:
            _check_batches(network, copied, task, inputs, day)
        _try_splits(network, copied, task, inputs, day)


def copy_of(function: Any) -> Any:
    """Return a copy of a loss or a metric that is an object, with the same parameters; others as they are."""
    if isinstance(function, type | FunctionType | MethodType | BuiltinFunctionType):
        return function  # what a method belongs to may be large
    parameters = list(function.parameters()) if isinstance(function, nn.Module) else []
    try:
        return deepcopy(function, {id(parameter): parameter for parameter in parameters})
    except Exception:  # whatever its class raises
        return function


def check_memory(training: Training, task: Task, dtype: torch.dtype, device: torch.device) -> None:
    """Raise SettingError if the loss gives other values after other calls, which no checkpoint would hold.

    A loss that fails here is left to `preflight`.

    Args:
        training: The settings.
        task: A task.
        dtype: Type of the network's weights.
        device: The network's device.
    """
    training = attrs.evolve(training, loss=copy_of(training.loss))
    _, targets = load(task.train.subset(torch.arange(N_EXAMPLES) % len(task.train)), dtype, device)
    drawn = seeding.generator(0, "try")
    outputs = torch.randn(2, N_EXAMPLES, task.n_outputs, generator=drawn).sigmoid().to(device, dtype)
    loss, values = training.loss_of(task), list[Tensor]()
    try:
        with torch.enable_grad(), threads.quiet():
            for call in range(2 * N_EXAMPLES):
                is_compared = call in (0, 2 * N_EXAMPLES - 1)
                with seeding.forked(0, "try", device=device):
                    value = loss(outputs[0 if is_compared else 1].clone().requires_grad_(), targets.clone())
                values += [value.detach().clone()] if is_compared else []
        # On a GPU, equal calls may round otherwise.
        first, last = values
        is_equal = torch.equal(first, last) or (
            device.type != "cpu" and torch.allclose(first, last, rtol=1e-6, atol=0.0)
        )
        is_same = is_equal or not all(map(checks.all_finite, values))
    except Exception:  # whatever it raises
        return
    if not is_same:
        raise SettingError(
            "Training: with this loss no checkpoint can be made: for equal outputs and targets it gives other values "
            "after other calls, from what it keeps, and a resumed run would begin anew with that. Let it depend on "
            "outputs and targets alone, or run without checkpoint=.", page="optimizers",
        )  # fmt: skip


def _try_settings(
    network: MaskedNetwork, training: Training, task: Task, inputs: Tensor, targets: Tensor, steps: bool
) -> None:
    given, augmented = inputs, inputs
    if training.augment is not None:
        augmented = _changed("augment", training.augment, inputs)
    if training.transform is not None:
        inputs = _changed("transform", training.transform, inputs)
    if not network.is_tried:
        trials.check_weights(network, inputs[:3], task.n_outputs)
    outputs = probe(network, inputs, task.n_outputs)
    if not network.is_tried:
        trials.check_outputs(network, inputs[:3], given, task.n_outputs, training.transform)
    is_first, network.is_tried = not network.is_tried, True
    if (augmented.shape, augmented.dtype) != (given.shape, given.dtype):
        _try_augmented(network, training, task, given, augmented)
    _check_loss(training, task, outputs, targets, network.module.parameters())
    if training.accumulate > 1:
        _check_mean(training, task, outputs, targets, warns=is_first)
    _check_score(training, task)
    # Some metrics need more than a few examples, of all classes.
    blank = outputs.detach()[torch.arange(len(task.test), device=outputs.device) % len(outputs)]
    with threads.quiet():  # metrics that are not defined for outputs that are all equal warn
        is_defined = _is_defined(training, task, blank, task.test.targets.to(outputs.device))
    if not is_defined:
        warnings.warn(
            f"{titled(task.name)}: the metric gives NaN for its test targets, with the outputs of the new network and "
            "with random ones, so its scores would be NaN. A metric may need test examples of each class, or targets "
            "that differ.", stacklevel=2,
        )  # fmt: skip
    if steps:
        loss = training.loss_of(task)
        stepped = try_step(network, inputs, task.n_outputs, lambda outputs: loss(outputs, targets))
        tried(training, stepped, are_copies=True)


def _extremes(split: Split) -> Tensor:
    """Return the indices (int64) of the examples with the least and the largest number, if they are whole numbers.

    Of lazy inputs, and of floating-point ones, it is the first example.
    """
    held = split.inputs
    whole = torch.int8, torch.int16, torch.int32, torch.int64
    if isinstance(held, LazyInputs) or held.dtype not in whole or not held[:1].numel():
        return torch.zeros(1, dtype=torch.int64)
    rows = held.flatten(1) if held.dim() > 1 else held[:, None]
    return torch.stack([rows.amin(1).argmin(), rows.amax(1).argmax()])


def _try_augmented(network: MaskedNetwork, training: Training, task: Task, inputs: Tensor, augmented: Tensor) -> None:
    """Raise SettingError if a network cannot read inputs of the shape or type that `augment` makes of them."""
    changed = augmented if training.transform is None else _changed("transform", training.transform, augmented)
    try:
        probe(network, changed, task.n_outputs)
    except NetworkError as error:
        raise SettingError(
            f"Training: augment makes inputs of shape {tuple(augmented.shape[1:])}, {augmented.dtype}, of "
            f"{tuple(inputs.shape[1:])}, {inputs.dtype}, and the network cannot read them. Return them as they were "
            f"given. It says: {error}"
        ) from error


def _check_batches(network: MaskedNetwork, training: Training, task: Task, inputs: Tensor, day: int) -> None:
    """Raise DataError if a batch is too small for a network to train on."""
    sizes = (len(task.train) % training.batch_size, training.batch_size)
    if 1 in sizes and not trains_on(network, inputs[:1], task.n_outputs):
        raise DataError(
            f"day {day}, {titled(task.name)}: {len(task.train)} examples in batches of {training.batch_size} leave a "
            "batch of one, on which batch normalisation cannot train. Choose another batch_size."
        )


def _try_splits(network: MaskedNetwork, training: Training, task: Task, inputs: Tensor, day: int) -> None:
    """Raise DataError if a network cannot read a split: its inputs are of another type, or indices out of range."""
    for which, split in task.splits().items():
        others, _ = load(split.subset(_extremes(split)), network.dtype, inputs.device)
        kind = others.dtype
        if kind == inputs.dtype and others.is_floating_point():
            continue
        if training.transform is not None:
            others = _changed("transform", training.transform, others)
        try:
            probe(network, others, task.n_outputs)
        except NetworkError as error:
            rule = f"are {kind}, and train inputs {inputs.dtype}. One network reads one kind: convert them."
            if kind == inputs.dtype:
                rule = f"are whole numbers from {others.min()} to {others.max()}, of which the network cannot read all."
            raise DataError(f"day {day}, {titled(task.name)}: {which} inputs {rule} It says: {error}") from error


def _changed(name: str, function: Callable[[Tensor], Any], inputs: Tensor) -> Tensor:
    try:
        changed = function(inputs.clone())
    except Exception as error:
        raise SettingError(f"Training: {name} failed on inputs {tuple(inputs.shape)}: {error!r}") from error
    if not isinstance(changed, Tensor) or len(changed) != len(inputs):
        what = tuple(changed.shape) if isinstance(changed, Tensor) else repr(changed)
        raise SettingError(
            f"Training: {name} must return a batch of as many inputs, and returned {what} for {tuple(inputs.shape)}."
        )
    if changed.is_floating_point() and not checks.all_finite(changed):
        raise SettingError(f"Training: {name} returns values that are not finite.")
    return changed


def _check_loss(training: Training, task: Task, outputs: Tensor, targets: Tensor, parameters: Iterable[Tensor]) -> None:
    loss = training.loss_of(task)
    leaf = outputs.detach().requires_grad_()
    is_odd = not task.classifies and outputs.shape != targets.shape
    if is_odd and (training.loss is None or training.metric is None):
        raise SettingError(
            f"{titled(task.name)} has {task.n_outputs} outputs, and floating-point targets, which means regression, of "
            f"{targets.shape[1]} value{'' if targets.shape[1] == 1 else 's'} an example. If they are classes, give "
            "whole numbers from 0, (n,). If not, that needs a loss and a metric of its own: give both, "
            "Training(loss=..., metric=...).", page="optimizers",
        )  # fmt: skip
    # PyTorch's losses compare all outputs with all targets then, and warn.
    strict = threads.quiet(category=UserWarning, is_error=True) if is_odd else contextlib.nullcontext()
    with torch.enable_grad(), strict:
        number("loss", loss, leaf, targets)
        value = loss(leaf, targets)
    if isinstance(value, Tensor) and not value.dim() and value.requires_grad:
        value.backward()
    if leaf.grad is None:
        raise SettingError(
            f"Training: loss must return a scalar tensor that depends on the outputs, and returned {value!r}. Nothing "
            "can be learnt without a gradient."
        )
    known = {id(leaf), *map(id, parameters)}
    foreign = [tensor for tensor in _leaves(value) if id(tensor) not in known]
    if foreign:  # without those that each call makes anew
        with torch.enable_grad():
            again = set(map(id, _leaves(loss(leaf, targets))))
        foreign = [tensor for tensor in foreign if id(tensor) in again]
    if foreign:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in foreign)
        raise SettingError(
            f"Training: the loss has parameters of its own, of shape {shapes}, and no optimizer would train them. Move "
            "them into the network and name them with Agent(private=...); or, if they are to stay as they are, call "
            "requires_grad_(False) on them.", page="optimizers",
        )  # fmt: skip


def _check_mean(training: Training, task: Task, outputs: Tensor, targets: Tensor, warns: bool) -> None:
    """Raise SettingError if the loss is a sum over a batch; warn if it is no mean of the losses of its parts.

    Args:
        training: The settings.
        task: The task.
        outputs: Outputs of the network.
        targets: Their targets.
        warns: Whether to warn.
    """
    loss, n, outputs = training.loss_of(task), len(outputs), outputs.detach()
    half = n // 2
    with threads.quiet():
        whole, again, first, second = (
            number("loss", loss, outputs[part].clone(), targets[part].clone())
            for part in (slice(None), slice(None), slice(half), slice(half, None))
        )
    tolerance = 1e3 * torch.finfo(outputs.dtype).eps * max(abs(whole), abs(first), abs(second))
    if whole != again or not math.isfinite(tolerance):  # a loss that draws random numbers
        return
    if abs(whole - (half * first + (n - half) * second) / n) <= tolerance:
        return
    if abs(whole - (first + second)) <= tolerance:
        raise SettingError(
            f"Training: the loss is a sum over a batch, and accumulate={training.accumulate} averages over batches, so "
            'that steps would be smaller than those of a larger batch. Return a mean, such as with reduction="mean".',
            page="optimizers",
        )
    if warns:
        warnings.warn(
            f"Training: the loss of a batch is not the mean of the losses of its parts, so with accumulate="
            f"{training.accumulate} steps differ from those of a larger batch. Losses that weigh classes, leave "
            "targets out (ignore_index) or compare the examples of a batch are like that.", stacklevel=2,
        )  # fmt: skip


def _is_defined(training: Training, task: Task, outputs: Tensor, targets: Tensor) -> bool:
    """Return whether the metric is a number for some outputs: given ones, random ones, or random ones from 0 to 1.

    Raises:
        SettingError: If it fails for the given ones.
    """
    metric = training.metric_of(task)
    if not math.isnan(number("metric", metric, outputs, targets)):
        return True
    drawn = torch.randn(outputs.shape, generator=seeding.generator(0, "try")).to(outputs)
    for others in (drawn, drawn.sigmoid()):
        with contextlib.suppress(SettingError):
            if not math.isnan(number("metric", metric, others, targets)):
                return True
    return False


def _leaves(value: Tensor) -> list[Tensor]:
    """Return the tensors by which autograd would compute gradients of a value."""
    found, seen, left = list[Tensor](), set[Any](), [value.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found += [node.variable] if hasattr(node, "variable") else []
            left += [following for following, _ in node.next_functions]
    return found


def _check_score(training: Training, task: Task) -> None:
    """Warn if the score of a task with several labels an example would be that of a regression."""
    targets, loss = task.train.targets, training.loss
    is_usual = loss is None or (getattr(loss, "__module__", None) or "torch.").startswith("torch.")
    if is_usual or task.classifies or training.metric is not None or not bool(((targets == 0) | (targets == 1)).all()):
        return
    warnings.warn(
        f"{titled(task.name)}: all targets are 0.0 or 1.0, the loss is your own, and the score is the coefficient of "
        "determination. If examples have several labels, give Training(metric=daynight.metrics.label_accuracy); if "
        "not, metric=daynight.metrics.r_squared.", stacklevel=2,
    )  # fmt: skip


@attrs.frozen(eq=False)
class Tried:
    """An optimizer, and perhaps a scheduler, on copies of parameters, to try what they can do.

    Attributes:
        optimizer: The optimizer.
        scheduler: Its scheduler, or None.
        parameters: The parameters, with gradients.
    """

    optimizer: torch.optim.Optimizer
    scheduler: Any
    parameters: Sequence[nn.Parameter]

    @classmethod
    def of(cls, training: Training, named: Mapping[str, Tensor], n_steps: int = 100, are_copies: bool = False) -> Tried:
        """Make an optimizer and a scheduler of copies of parameters.

        Args:
            training: The settings.
            named: The parameters by name. Those of the copies that have no gradient here get random ones if no
                parameter has one.
            n_steps: Number of steps with which the scheduler is made.
            are_copies: Whether these are copies already, so that steps may change them and their gradients.

        Raises:
            SettingError: If one of the two cannot be made.
        """
        # An optimizer may also move numbers without a gradient.
        own = Tensor.detach if are_copies else lambda tensor: tensor.detach().clone()
        copies = [nn.Parameter(own(parameter)) for parameter in named.values()]
        gradients = [parameter.grad for parameter in named.values()]
        if all(gradient is None for gradient in gradients):
            # Not zeros, by whose norm an optimizer may divide.
            draw = seeding.generator(0, "try")
            gradients = [torch.randn(copy.shape, generator=draw).mul_(0.01).to(copy) for copy in copies]
        for copy, gradient in zip(copies, gradients, strict=True):
            copy.grad = None if gradient is None else own(gradient)
        optimizer = training.make_optimizer(copies, list(named))
        return cls(optimizer, training.make_scheduler(optimizer, n_steps), copies)

    def step(self, is_last: bool = False) -> None:
        """Take a step of the optimizer, and one of the scheduler.

        Args:
            is_last: Whether no step follows, so that the gradients need not stay.

        Raises:
            SettingError: If one of the two fails.
        """
        gradients = [None if copy.grad is None or is_last else copy.grad.clone() for copy in self.parameters]
        try:
            set_mode(self.optimizer, "train")
            self.optimizer.step()
            set_mode(self.optimizer, "eval")
        except Exception as error:
            raise SettingError(
                f"Training: the optimizer cannot take a step: {error!r}{_remedy(self.optimizer, error)}",
                page="optimizers",
            ) from error
        for copy, gradient in zip(self.parameters, gradients, strict=True):
            copy.grad = gradient
        try:
            if self.scheduler is not None:
                self.scheduler.step()
        except Exception as error:
            raise SettingError(
                f"Training: scheduler must make one that steps without arguments, and {type(self.scheduler).__name__} "
                f"failed: {error!r}"
            ) from error


def _remedy(optimizer: torch.optim.Optimizer, error: Exception) -> str:
    """Return what to do about an optimizer that cannot take a step, with a full stop before it; empty if unknown."""
    if any(group.get("differentiable") for one in held_by(optimizer) for group in one.param_groups):
        return ". Leave differentiable=True out: steps are not differentiated."
    if "closure" in str(error).lower():
        return (
            ". It computes the gradient more than once in a step, by a closure, which daynight does not give. Take an "
            "optimizer that steps without one, such as the base optimizer of SAM."
        )
    return ""


def tried(training: Training, named: Mapping[str, Tensor], are_copies: bool = False) -> Tried:
    """Make an optimizer, and a scheduler if the settings have one, and let them take a step.

    Args:
        training: The settings.
        named: The parameters by name (see `Tried.of`).
        are_copies: As there.

    Raises:
        SettingError: If one of the two cannot be made, or fails in the step.
    """
    made = Tried.of(training, named, are_copies=are_copies)
    made.step(is_last=True)
    return made
