"""Which task an input belongs to: what each task keeps of its data to tell, and the probabilities of the tasks."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from daynight.data.splits import Split
from daynight.errors import DamagedFileError, DataError, StateError
from daynight.networks.prediction import CHUNK, PORTION, padded
from daynight.support import checks, seeding

Features = Callable[[Tensor], Tensor]

#: Largest number of features that `sketch` returns.
N_FEATURES = 256
#: Number of directions in which the covariance of a class is kept; in all others, its variance is the same.
RANK = 16
#: The covariance of a class is computed as if the class had so many more examples, spread as the task's classes are on
#: average. So a class of few examples has a covariance, too.
N_SHARED = 100
#: Smallest variance, in units of the mean variance of the features within the task's classes.
FLOOR = 1e-3
#: A task of more classes has one covariance for all of them, so that fitting needs little memory.
N_COVARIANCES = 32
#: A task of more classes has one mean and one covariance, so that its signature stays small.
N_MEANS = 1024
#: Temperatures of which one is chosen on validation data.
TEMPERATURES = tuple(2 ** (step / 2) for step in range(21))
#: Densities are kept at these shares of a task's validation examples, more closely where "none of these" is decided.
LEVELS = (0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
#: What stands for the logarithm of a density that is too small for a number.
_LEAST = -1e300


def sketch(inputs: Tensor) -> Tensor:
    """Return a short random projection of inputs, which is the same for all tasks and networks.

    Inputs of more than `N_FEATURES` numbers are put in a random order, multiplied by random signs, and added up in
    `N_FEATURES` groups of equal size. This keeps distances between inputs in expectation (feature hashing, Weinberger
    et al., ICML 2009, here with groups of equal size). Order and signs depend only on the number of numbers.

    Args:
        inputs: (n, ...), real numbers.

    Returns:
        float64 (n, features) on the CPU.
    """
    flat = inputs.detach().to("cpu", torch.float64).reshape(len(inputs), math.prod(inputs.shape[1:]))
    n_values = flat.shape[1]
    if n_values <= N_FEATURES:
        return flat
    order, signs = _mixing(n_values)
    rest = flat.new_zeros(len(flat), -n_values % N_FEATURES)
    return torch.cat([flat[:, order] * signs, rest], 1).reshape(len(flat), -1, N_FEATURES).sum(1)


@attrs.frozen(eq=False, kw_only=True)
class Answer:
    """What an agent predicts if nobody names the task.

    Attributes:
        outputs: Floating point (n, outputs of all living tasks), side by side in the order of `tasks`. Those of a task
            are, bit for bit, what it predicts if it is named.
        tasks: Indices of the living tasks.
        n_outputs: Number of outputs of each of these tasks.
        task: int64 (n,), the index of the most probable of these tasks.
        probability: float64 (n,), the probability of that task.
        none: float64 (n,), the probability that an input belongs to none of these tasks.
    """

    outputs: Tensor
    tasks: tuple[int, ...]
    n_outputs: tuple[int, ...]
    task: Tensor
    probability: Tensor
    none: Tensor

    @classmethod
    def of(cls, outputs: Mapping[int, Tensor], probabilities: Tensor) -> Answer:
        """Return the answer to some inputs.

        Args:
            outputs: The outputs (n, outputs of the task) of each task, by its index.
            probabilities: float64 (n, tasks + 1), as `probabilities` returns them, on the device of the outputs.
        """
        tasks = tuple(outputs)
        probability, place = probabilities[:, :-1].max(1)
        return cls(
            outputs=torch.cat(list(outputs.values()), 1), tasks=tasks,
            n_outputs=tuple(found.shape[1] for found in outputs.values()),
            task=torch.tensor(tasks, device=place.device)[place], probability=probability, none=probabilities[:, -1],
        )  # fmt: skip

    def of_task(self, task: int) -> Tensor:
        """Return the outputs (n, outputs of the task) of one of the tasks.

        Args:
            task: Index of a task that was living when the agent answered.

        Raises:
            StateError: If there is no such task among `tasks`.
        """
        try:
            if isinstance(task, bool):
                raise TypeError
            return self._parts()[self.tasks.index(operator.index(task))]
        except (TypeError, ValueError) as error:
            raise StateError(
                f"of_task: task {task!r} is not among the tasks of this answer, whose indices are {list(self.tasks)}. "
                "Give one of these indices. To ask a task by its name, call agent.predict(inputs, name)."
            ) from error

    @property
    def label(self) -> Tensor:
        """The class with the largest output of the chosen task, from 0, as int64 (n,); only for classification."""
        labels = torch.stack([outputs.argmax(1) for outputs in self._parts()], 1)
        places = (self.task[:, None] == torch.tensor(self.tasks, device=self.task.device)).long().argmax(1)
        return labels.gather(1, places[:, None])[:, 0]

    def _parts(self) -> Sequence[Tensor]:
        return torch.split(self.outputs, list(self.n_outputs), 1)

    def __repr__(self) -> str:
        return f"<Answer for {len(self.task):,} inputs, of tasks {', '.join(map(str, self.tasks))}>"


@attrs.frozen(eq=False)
class Signature:
    """What a task keeps of its data to tell whether an input belongs to it. It holds no example.

    The features of each class are described by a Gaussian whose covariance is low-rank plus a multiple of the identity
    (probabilistic PCA, Tipping and Bishop, 1999). A task without class labels is described as a single class.

    Attributes:
        weights: float64 (classes,), the share of each class among the training examples.
        means: float32 (classes, features).
        axes: float32 (covariances, features, rank), orthonormal directions. There is one covariance for each class, or
            one for all.
        variances: float64 (covariances, rank), the variance along each direction.
        noise: float64 (covariances,), the variance in all other directions.
        levels: float64 (number of `LEVELS`,), the quantiles of the log density of the task's validation examples.
        losses: float64 (number of `TEMPERATURES`,), for each temperature, the sum over the validation examples of
            -log(probability of this task among this and the earlier tasks).
        n_examples: int64, a single number: how many validation examples there were.
    """

    weights: Tensor
    means: Tensor
    axes: Tensor
    variances: Tensor
    noise: Tensor
    levels: Tensor
    losses: Tensor
    n_examples: Tensor

    @property
    def n_bytes(self) -> int:
        """Number of bytes of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.state().values())

    def state(self) -> dict[str, Tensor]:
        """Return all tensors by name; `restore` takes them."""
        return {field.name: getattr(self, field.name) for field in attrs.fields(Signature)}

    @classmethod
    def restore(cls, state: Mapping[str, Tensor]) -> Signature:
        """Return the signature whose tensors `state` returned.

        Raises:
            DamagedFileError: If a tensor is missing, left over or not finite, or has another shape or type.
        """
        names = [field.name for field in attrs.fields(cls)]
        if sorted(state) != sorted(names):
            raise DamagedFileError(f"a signature has the tensors {', '.join(names)}, not {', '.join(state) or 'none'}.")
        found = cls(**state)
        for name, (dtype, shape) in found._expected().items():
            tensor = state[name]
            if tensor.dtype != dtype or tuple(tensor.shape) != shape or not bool(torch.isfinite(tensor).all()):
                raise DamagedFileError(
                    f"{name} of a signature is {tuple(tensor.shape)} of {tensor.dtype}; it must be {shape} of {dtype}, "
                    "and finite."
                )
        for name in ("weights", "variances", "noise", "n_examples"):
            if not bool((state[name] > 0).all()):
                raise DamagedFileError(f"{name} of a signature must be above 0.")
        if not bool((found.levels.diff() >= 0).all()):
            raise DamagedFileError("levels of a signature must be in ascending order.")
        return found

    def log_density(self, features: Tensor) -> Tensor:
        """Return the logarithm of the task's density at features, float64 (n, features): float64 (n,)."""
        logs = []
        for index, (weight, mean) in enumerate(zip(self.weights, self.means.double(), strict=True)):
            which = index if len(self.axes) > 1 else 0
            axes, variances, noise = self.axes[which].double(), self.variances[which], self.noise[which]
            centred = features - mean
            along = centred @ axes
            others = (centred.square().sum(1) - along.square().sum(1)).clamp(min=0)
            n_others = axes.shape[0] - axes.shape[1]
            distance = (along.square() / variances).sum(1) + others / noise
            volume = variances.log().sum() + n_others * noise.log() + axes.shape[0] * math.log(2 * math.pi)
            logs.append(weight.log() - 0.5 * (distance + volume))
        # Numbers that are not finite, or whose squares are not, are as far away as can be.
        return torch.stack(logs, 1).logsumexp(1).nan_to_num(nan=_LEAST, neginf=_LEAST)

    def tail(self, log_density: Tensor) -> Tensor:
        """Return how many of the task's validation examples have no higher density: a p-value.

        It is (1 + number of such examples) / (1 + number of examples), as in conformal prediction, with the number
        interpolated between `levels`: at most a share p of new examples of the task has a value of p or less.

        Args:
            log_density: float64 (n,).

        Returns:
            float64 (n,), above 0 and at most 1.
        """
        shares = torch.tensor(LEVELS, dtype=torch.float64)
        right = torch.searchsorted(self.levels, log_density.contiguous(), right=True)
        low, high = (right - 1).clamp(min=0), right.clamp(max=len(LEVELS) - 1)
        width = self.levels[high] - self.levels[low]
        part = torch.where(width > 0, (log_density - self.levels[low]) / width, 0).clamp(0, 1)
        share = torch.where(right > 0, shares[low] + part * (shares[high] - shares[low]), 0)
        return (1 + share * self.n_examples) / (1 + self.n_examples)

    def _expected(self) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Return the type and shape that each tensor must have, given the shapes of means and axes."""
        n_classes, n_features = self.means.shape if self.means.dim() == 2 else (1, 1)
        rank = min(RANK, n_features)
        n_covariances = n_classes if len(self.noise.reshape(-1)) > 1 else 1
        return {
            "weights": (torch.float64, (n_classes,)),
            "means": (torch.float32, (n_classes, n_features)),
            "axes": (torch.float32, (n_covariances, n_features, rank)),
            "variances": (torch.float64, (n_covariances, rank)),
            "noise": (torch.float64, (n_covariances,)),
            "levels": (torch.float64, (len(LEVELS),)),
            "losses": (torch.float64, (len(TEMPERATURES),)),
            "n_examples": (torch.int64, ()),
        }


def fit(
    train: Split, validation: Split | None = None, earlier: Sequence[Signature] = (), features: Features = sketch
) -> Signature:
    """Return the signature of a task. Examples are read once, in portions, and none is kept.

    Args:
        train: The task's training examples.
        validation: Its validation examples; None takes the training examples, on which densities are slightly too high.
        earlier: Signatures of the other tasks that an input can belong to.
        features: Function from inputs (n, ...), as a network reads them, to features (n, features). It must be the
            same for all tasks whose signatures are compared, since only densities in one space can be compared.

    Raises:
        DataError: If the features are not finite, or their number differs from that of an earlier task.
    """
    weights, means, covariances = _moments(train, features)
    for other in earlier:
        _check_width(other, means.shape[1])
    spread = (weights * covariances.diagonal(dim1=1, dim2=2).mean(1)).sum()
    smallest = FLOOR * float(spread) + torch.finfo(torch.float32).tiny
    rank = min(RANK, means.shape[1])
    variances, axes = torch.linalg.eigh(covariances)  # in ascending order
    variances = variances.clamp(min=0) + smallest
    others = variances[:, : variances.shape[1] - rank]
    found = Signature(
        weights=weights,
        means=means.float(),
        axes=axes[:, :, axes.shape[2] - rank :].float().contiguous(),
        variances=variances[:, variances.shape[1] - rank :].contiguous(),
        noise=others.mean(1) if others.shape[1] else torch.full_like(variances[:, 0], smallest),
        levels=torch.zeros(len(LEVELS), dtype=torch.float64),
        losses=torch.zeros(len(TEMPERATURES), dtype=torch.float64),
        n_examples=torch.tensor(1),
    )
    return _calibrated(found, train if validation is None else validation, earlier, features)


def probabilities(
    signatures: Sequence[Signature], inputs: Tensor, features: Features = sketch, none: float = 0.01
) -> Tensor:
    """Return the probability that inputs belong to each of some tasks, or to none of them.

    Among the tasks, probabilities are in proportion to their densities to the power 1 / temperature. The temperature is
    the one of `TEMPERATURES` that gives the tasks' validation examples the highest probability (Guo et al., ICML 2017).
    With p the `Signature.tail` of the most probable task, the probability of none is none / (none + p): more than one
    half if fewer than a share `none` of the task's own examples lie so far out.

    With n validation examples of that task (training examples if it has none), p is at least 1 / (n + 1), so the
    probability of none is at most (n + 1) / (n + 1 + 1 / none): with none = 0.01, it exceeds one half only if n is 100
    or more.

    Computed in chunks of fixed size: equal inputs give equal bits whatever the batch and the order of the tasks.

    Args:
        signatures: Signatures of the tasks.
        inputs: (n, ...), as a network reads them.
        features: The function that the signatures were fitted with.
        none: Share of the tasks' own examples that may be taken for examples of none, above 0.

    Returns:
        float64 (n, tasks + 1) on the CPU. Rows sum to 1, and the last column is "none of these".

    Raises:
        DataError: If the number of features is not that of the signatures.
        SettingError: If `none` is not above 0.
    """
    none = checks.positive("none", none)
    if not len(inputs) or not signatures:
        return torch.ones(len(inputs), len(signatures) + 1, dtype=torch.float64)
    temperature, parts = temperature_of(signatures), []
    for chunk in inputs.split(CHUNK):
        found = _read(features, padded(chunk, CHUNK))
        logs = _log_densities(signatures, found)
        best = logs.argmax(1)
        tails = torch.stack([one.tail(log) for one, log in zip(signatures, logs.unbind(1), strict=True)], 1)
        is_none = none / (none + tails.gather(1, best[:, None]))
        parts.append(torch.cat([_softmax(logs / temperature) * (1 - is_none), is_none], 1)[: len(chunk)])
    return torch.cat(parts)


def temperature_of(signatures: Sequence[Signature]) -> float:
    """Return the temperature that gives the validation examples of all tasks the highest probability."""
    losses = torch.stack([one.losses for one in signatures]).sort(0).values.sum(0)
    return TEMPERATURES[int(losses.argmin())]


@functools.lru_cache(maxsize=8)
def _mixing(n_values: int) -> tuple[Tensor, Tensor]:
    generator = seeding.generator(0, "sketch", n_values)
    order = torch.randperm(n_values, generator=generator)
    return order, torch.randint(0, 2, (n_values,), generator=generator).double() * 2 - 1


def _moments(train: Split, features: Features) -> tuple[Tensor, Tensor, Tensor]:
    """Return the share and mean of each class, and the covariances of the classes, or one of all if they are many."""
    labels = torch.zeros(len(train), dtype=torch.int64) if train.targets.is_floating_point() else train.targets
    n_classes = int(labels.unique().numel())
    labels = torch.zeros_like(labels) if n_classes > N_MEANS else labels.unique(return_inverse=True)[1]
    n_classes = int(labels.max()) + 1
    are_many = n_classes > N_COVARIANCES
    counts = torch.bincount(labels).double()
    sums = products = origin = torch.empty(0)
    indices = torch.arange(len(train)).split(PORTION)
    for index, (inputs, _) in zip(indices, train.batches(indices), strict=True):
        found, which = _read(features, inputs), labels[index]
        if not len(origin):
            # Sums are taken from a point among the data: otherwise small differences of large numbers lose digits.
            origin, n_features = found.mean(0), found.shape[1]
            sums = found.new_zeros(n_classes, n_features)
            products = found.new_zeros(1 if are_many else n_classes, n_features, n_features)
        found = found - origin
        sums.index_add_(0, which, found)
        for label in range(len(products)):
            rows = found if are_many else found[which == label]
            products[label] += rows.T @ rows
    means = sums / counts[:, None]
    within = (means.T * counts) @ means if are_many else counts[:, None, None] * means[:, :, None] * means[:, None]
    scatter = products - within
    if are_many:
        scatter = scatter / len(train)
    else:
        pooled = scatter.sum(0) / len(train)
        scatter = (scatter + N_SHARED * pooled) / (counts + N_SHARED)[:, None, None]
    means = means + origin
    if not bool(torch.isfinite(scatter).all() and torch.isfinite(means.float()).all()):
        raise DataError(
            "the features of the task's inputs are not finite, or too large for 32-bit numbers. Scale the inputs."
        )
    return counts / len(train), means, scatter


def _calibrated(signature: Signature, validation: Split, earlier: Sequence[Signature], features: Features) -> Signature:
    """Return a signature with the quantiles of its density, and the loss for each temperature, on validation data."""
    indices = torch.arange(len(validation)).split(PORTION)
    everyone = [*earlier, signature]
    logs = torch.cat([_log_densities(everyone, _read(features, inputs)) for inputs, _ in validation.batches(indices)])
    losses = [-(_softmax(logs / one)[:, -1].clamp(min=1e-300)).log().sum() for one in TEMPERATURES]
    ordered = logs[:, -1].sort().values
    places = torch.tensor(LEVELS, dtype=torch.float64) * (len(ordered) - 1)
    low, high = places.floor().long(), places.ceil().long()
    levels = ordered[low] + (places - low) * (ordered[high] - ordered[low])
    return attrs.evolve(signature, levels=levels, losses=torch.stack(losses), n_examples=torch.tensor(len(validation)))


def _log_densities(signatures: Sequence[Signature], features: Tensor) -> Tensor:
    for one in signatures:
        _check_width(one, features.shape[1])
    return torch.stack([one.log_density(features) for one in signatures], 1)


def _softmax(logits: Tensor) -> Tensor:
    """Return the softmax over columns (n, columns), with bits that do not depend on the order of columns."""
    powers = (logits - logits.max(1, keepdim=True).values).exp()
    return powers / powers.sort(1).values.sum(1, keepdim=True)


def _read(features: Features, inputs: Tensor) -> Tensor:
    found = features(inputs).detach()
    if found.dim() != 2 or len(found) != len(inputs):
        raise DataError(
            f"features must be a function from inputs (n, ...) to (n, features); of {len(inputs)} inputs it made the "
            f"shape {tuple(found.shape)}."
        )
    return found.to("cpu", torch.float64)


def _check_width(signature: Signature, n_features: int) -> None:
    if signature.means.shape[1] != n_features:
        raise DataError(
            f"inputs have {n_features} features, and those of an earlier task had {signature.means.shape[1]}. Inputs "
            "of all tasks must have one shape."
        )
