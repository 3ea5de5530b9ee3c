"""Drift: whether new inputs differ from those that a task was trained on, of which a small profile is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from daynight.data import arrays
from daynight.data.splits import Split, as_inputs
from daynight.errors import DataError, SettingError
from daynight.support import checks, expected, seeding
from daynight.support.frames import frame_of

if TYPE_CHECKING:
    import pandas

#: A profile holds at most this many features: more are pooled.
MOST_FEATURES = 256
#: A feature with so many different values at most has categories; of others, the quantiles at 0, 1, ... 100 % are kept.
MOST_CATEGORIES, N_QUANTILES = 32, 101
#: With fewer examples, on either side, nothing is tested.
LEAST_EXAMPLES = 20
#: The chi-square test needs so many expected examples in each cell. Source: W. G. Cochran, "Some methods for
#: strengthening the common chi-square tests", Biometrics 10 (1954).
_LEAST_EXPECTED = 5
_CHUNK = 256


@attrs.frozen(eq=False, kw_only=True)
class Profile:
    """What is kept of a task's training inputs, to compare later inputs with them: some values of each feature.

    A profile has at most 256 features, and takes at most about 210 kB. If an input has more numbers, images (channels,
    height, width) are averaged over the cells of a grid, and other inputs over runs of neighbouring numbers. All
    numbers are read as 32-bit floating point.

    Of a feature with at most 32 different values, such as a category, each value is kept; of others, the values at 101
    quantiles. With each value, two counts are kept: of the examples below it, and of those that have it.

    Attributes:
        n: Number of examples that were counted.
        input_shape: Shape of one input, as a network reads it.
        shape: Shape of the features of one input: that of the input, or of what it is pooled to.
        are_categories: For each feature, whether all its values are kept.
        values: For each feature, some values in ascending order, float32.
        below: For each of the values, the number of examples below it, int64.
        at: For each of the values, the number of examples that have it, int64.
    """

    n: int
    input_shape: tuple[int, ...]
    shape: tuple[int, ...]
    are_categories: tuple[bool, ...]
    values: tuple[np.ndarray, ...]
    below: tuple[np.ndarray, ...]
    at: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, split: Split, *, most: int = 10_000, seed: int = 0) -> Profile:
        """Return the profile of the inputs of a split, as a network reads them.

        Args:
            split: The training examples. They are read in chunks of 256, and a lazy split only as far as needed.
            most: Largest number of examples to read. Of more, a uniform sample without replacement is read.
            seed: Seed of the sample.

        Raises:
            DataError: If examples cannot be read.
            SettingError: If `most` or `seed` is not valid.
        """
        table = _table(split, checks.integer("Profile: most", most, least=1), seed, is_finite=True)
        kept = [_kept(column) for column in table.values.T]
        are_categories, values, below, at = zip(*kept, strict=True) if kept else ((), (), (), ())
        return cls(
            n=len(table.values), input_shape=table.input_shape, shape=table.shape, are_categories=are_categories,
            values=values, below=below, at=at,
        )  # fmt: skip

    @property
    def n_bytes(self) -> int:
        """Bytes that the profile takes in a file."""
        return sum(value.numel() * value.element_size() for value in self.state().values() if isinstance(value, Tensor))

    def state(self) -> dict[str, Any]:
        """Return the profile as tensors and plain values; `restore` takes them."""
        dtype = torch.int16 if self.n < 2**15 else torch.int32
        below, at = (np.concatenate([np.empty(0, np.int64), *counts]) for counts in (self.below, self.at))
        return {
            "n": self.n,
            "input_shape": list(self.input_shape),
            "shape": list(self.shape),
            "are_categories": torch.tensor(self.are_categories, dtype=torch.bool),
            "sizes": torch.tensor([len(values) for values in self.values], dtype=torch.int32),
            "values": torch.from_numpy(np.concatenate([np.empty(0, np.float32), *self.values])),
            "below": torch.from_numpy(below).to(dtype),
            "at": torch.from_numpy(at).to(dtype),
        }

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Profile:
        """Return the profile of which `state` returned the values.

        Raises:
            ValueError: If values are missing, or do not fit each other.
        """
        _STATE("profile", dict(state))
        n_features = math.prod(state["shape"])
        if n_features > MOST_FEATURES:
            raise ValueError(f"profile.shape has {n_features:,} features, and must have at most {MOST_FEATURES}")
        expected.tensor((n_features,), torch.bool)("profile.are_categories", state["are_categories"])
        expected.tensor((n_features,), torch.int32)("profile.sizes", state["sizes"])
        sizes = state["sizes"].tolist()
        if not all(1 <= size <= N_QUANTILES for size in sizes):
            raise ValueError(f"profile.sizes must be from 1 to {N_QUANTILES}")
        expected.tensor((sum(sizes),), torch.float32)("profile.values", state["values"])
        for name in ("below", "at"):
            expected.tensor((sum(sizes),), torch.int16, torch.int32)(f"profile.{name}", state[name])
        ends = np.cumsum(sizes)[:-1]
        values, below, at = (
            tuple(np.split(tensor.numpy(), ends)) if sizes else ()
            for tensor in (state["values"], state["below"].long(), state["at"].long())
        )
        found = cls(
            n=state["n"], input_shape=tuple(state["input_shape"]), shape=tuple(state["shape"]),
            are_categories=tuple(state["are_categories"].tolist()), values=values, below=below, at=at,
        )  # fmt: skip
        for place in range(n_features):
            _check(found, place)
        return found


def _check(profile: Profile, place: int) -> None:
    """Raise ValueError unless what a profile has of a feature fits together."""
    values, below, at = profile.values[place], profile.below[place], profile.at[place]
    if not np.isfinite(values).all() or (np.diff(values) <= 0).any():
        raise ValueError(f"profile.values of feature {place} are not finite and ascending")
    between = np.diff(np.append(below, profile.n), prepend=0) - np.insert(at, 0, 0)
    is_exact = profile.are_categories[place]
    if (at < 1).any() or between[0] or between[-1] or (between < 0).any() or (is_exact and between.any()):
        raise ValueError(f"the counts of feature {place} of profile do not add up to {profile.n:,}")


_SHAPE = expected.listed(expected.whole(0, 2**31))
_STATE = expected.fields(
    {"n": expected.whole(1), "input_shape": _SHAPE, "shape": _SHAPE}
    | dict.fromkeys(("are_categories", "sizes", "values", "below", "at"), expected.tensor())
)


@attrs.frozen(eq=False, kw_only=True)
class Drift:
    """How new inputs differ from those that a task was trained on, feature by feature.

    Attributes:
        statistic: For each feature, the difference between the two samples, from 0 to 1: the largest difference of the
            shares of examples up to a value (Kolmogorov-Smirnov), or half the sum of the differences of the shares of
            all categories (total variation).
        p_value: For each feature, the probability of so large a difference if nothing has changed; NaN if there are too
            few examples.
        corrected: The p-values, corrected for the number of features by Holm's method.
        missing: For each feature, the share of new examples in which it is missing or not finite.
        level: Largest corrected p-value with which a feature counts as drifted.
        n: Number of new examples that were compared.
        shape: Shape of the features of one input, which are numbered as in the flattened input. It differs from that of
            an input if the inputs are pooled: see `Profile`.
        note: What to know about the result, in words; empty if there is nothing.
    """

    statistic: np.ndarray
    p_value: np.ndarray
    corrected: np.ndarray
    missing: np.ndarray
    level: float
    n: int
    shape: tuple[int, ...]
    note: str = ""

    @property
    def found(self) -> bool:
        """Whether any feature drifted; False if there are too few examples to tell."""
        return bool(self.features)

    @property
    def features(self) -> tuple[int, ...]:
        """Indices of the features that drifted, the one with the largest statistic first."""
        places = np.flatnonzero(self.corrected <= self.level)
        return tuple(places[np.argsort(-self.statistic[places], kind="stable")].tolist())

    def to_frame(self) -> pandas.DataFrame:
        """Return the result as a pandas frame, with one row per feature.

        Raises:
            MissingPackageError: If pandas is not installed.
        """
        columns = {name: getattr(self, name).tolist() for name in ("statistic", "p_value", "corrected", "missing")}
        columns["drifted"] = (self.corrected <= self.level).tolist()
        rows = [
            {"feature": place, **dict(zip(columns, values, strict=True))}
            for place, values in enumerate(zip(*columns.values(), strict=True))
        ]
        return frame_of(rows, ("feature", *columns))

    def __repr__(self) -> str:
        said = f"{len(self.features)} of {len(self.statistic)} features drifted, in {self.n:,} examples"
        return f"<Drift: {self.note or said}>"


def drift(profile: Profile, inputs: Any, *, level: float = 0.05, most: int = 10_000, seed: int = 0) -> Drift:
    """Test for each feature whether new inputs have the same distribution as those of a profile.

    Features with categories are tested by Pearson's chi-square test, in which rare values are joined, or by Fisher's
    exact test if two cells are left. Others are tested by the two-sample test of Kolmogorov and Smirnov. Its statistic
    is the largest difference of shares up to or below a value that the profile keeps, where the counts are exact. It is
    at most that of the whole samples, and less by at most the share between two kept values, 1 %. So what the profile
    leaves out makes the p-value larger, and never smaller. Values that occur several times have the same effect. The
    p-value is that of the limit distribution, which is too small by a few percent of itself at most, and only for small
    samples of one size. (F. Wei and R. M. Dudley, "Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities", Statistics and
    Probability Letters 82, 2012.)

    The p-values are corrected by Holm's method. (S. Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6, 1979.) So if nothing has changed, anything is found with probability `level`
    at most, however the features depend on each other. The method of Benjamini and Hochberg finds more features, but
    does not promise this for every dependence, and what a job acts on is whether anything is found.

    The tests take examples as independent. Examples of one day are often alike, and then more is found than `level`
    says. `Drift.statistic` shows how large a difference is.

    Args:
        profile: What was kept of the training inputs.
        inputs: Tensor or array (n, ...), of the shape of the training inputs, uint8 for pixels; or a `Split`. Values
            that are missing or not finite count as larger than all others.
        level: Probability of finding drift if there is none, above 0 and below 1.
        most: Largest number of examples to compare. Of more, a uniform sample is read and compared.
        seed: Seed of the sample.

    Raises:
        DataError: If `inputs` cannot be read, or have another shape than the training inputs.
        SettingError: If `level`, `most` or `seed` is not valid.
    """
    if not 0 < checks.finite("drift: level", level) < 1:
        raise SettingError(f"drift: level must be above 0 and below 1, not {level!r}.")
    most = checks.integer("drift: most", most, least=1)
    source = inputs if isinstance(inputs, Split) else arrays.read("inputs", inputs)
    with seeding.forked(seed, "drift"):  # a user's dataset or view may draw from the global generators
        shape = source.input_shape() if isinstance(source, Split) else tuple(source.shape[1:])
    if shape != profile.input_shape or (isinstance(source, Tensor) and not source.dim()):
        raise DataError(
            f"drift: each input has the shape {shape}, and those that the task was trained on {profile.input_shape}. "
            "Give inputs of this shape, with a first dimension that counts the examples."
        )
    n, n_features = min(len(source), most), len(profile.values)
    if min(n, profile.n) < LEAST_EXAMPLES:
        note = f"too few examples to tell: {n:,} new ones and {profile.n:,} of training, of {LEAST_EXAMPLES} needed"
        nothing = np.full(n_features, np.nan)
        return Drift(
            statistic=nothing, p_value=nothing, corrected=nothing, missing=nothing, level=level, n=n,
            shape=profile.shape, note=note,
        )  # fmt: skip
    table = _table(source, most, seed).values
    if table.shape[1] != n_features:
        raise DataError(f"drift: the inputs have {table.shape[1]} features, and the profile {n_features}.")
    missing = (~np.isfinite(table)).mean(axis=0)
    table[~np.isfinite(table)] = np.inf
    tested = [
        _of_categories(values, at, column) if are_categories else _of_numbers(values, below, at, column)
        for are_categories, values, below, at, column in zip(
            profile.are_categories, profile.values, profile.below, profile.at, table.T, strict=True
        )
    ]
    statistic, p_value = np.array(tested, dtype=np.float64).reshape(n_features, 2).T
    return Drift(
        statistic=statistic, p_value=p_value, corrected=_holm(p_value), missing=missing, level=level, n=n,
        shape=profile.shape,
    )  # fmt: skip


@attrs.frozen(eq=False)
class _Table:
    """Features of examples: `values`, float32 (n, features), and the shapes of one input and of its features."""

    values: np.ndarray
    input_shape: tuple[int, ...]
    shape: tuple[int, ...]


def _table(source: Split | Tensor, most: int, seed: int, is_finite: bool = False) -> _Table:
    """Return the features of a uniform sample of `most` examples at most.

    Args:
        source: One or more examples.
        most: Largest number of examples.
        seed: Seed of the sample.
        is_finite: Whether an error is raised if values are not finite.
    """
    n = len(source)
    index = torch.arange(n)
    if n > most:
        index = torch.randperm(n, generator=seeding.generator(seed, "drift"))[:most].sort().values
    chunks: list[np.ndarray] = []
    with seeding.forked(seed, "drift"):
        for chunk in index.split(_CHUNK):
            inputs = next(source.batches([chunk]))[0] if isinstance(source, Split) else as_inputs(source[chunk])
            if is_finite:
                arrays.check_finite("inputs", inputs, chunk)
            pooled = _pooled(inputs)
            chunks.append(pooled.reshape(len(chunk), math.prod(pooled.shape[1:])).cpu().numpy())
    return _Table(np.concatenate(chunks), tuple(inputs.shape[1:]), tuple(pooled.shape[1:]))


def _pooled(inputs: Tensor) -> Tensor:
    """Return inputs (n, ...) as 32-bit floating point, with at most 256 features: (n, features) or (n, c, h, w)."""
    numbers = (torch.view_as_real(inputs) if inputs.is_complex() else inputs).detach().float()
    shape = numbers.shape[1:]
    if math.prod(shape) <= MOST_FEATURES:
        return numbers
    if len(shape) == 3 and shape[0] <= MOST_FEATURES:
        side = math.isqrt(MOST_FEATURES // shape[0])
        return functional.adaptive_avg_pool2d(numbers, (min(side, shape[1]), min(side, shape[2])))
    return functional.adaptive_avg_pool1d(numbers.flatten(1)[:, None], MOST_FEATURES)[:, 0]


def _kept(column: np.ndarray) -> tuple[bool, np.ndarray, np.ndarray, np.ndarray]:
    """Return whether a feature has categories, and what a profile keeps of it: values, `below` and `at`."""
    values, at = np.unique(column, return_counts=True)
    n, upto = len(column), at.cumsum()
    are_categories = len(values) <= min(MOST_CATEGORIES, max(1, n // _LEAST_EXPECTED))
    places = np.arange(len(values))
    if not are_categories and len(values) > N_QUANTILES:
        # Each quantile is a value that occurs: the first up to which there is such a share of the examples.
        needed = -(-np.arange(N_QUANTILES) * n // (N_QUANTILES - 1))
        places = np.unique(np.searchsorted(upto, np.maximum(needed, 1)))
    return are_categories, values[places], (upto - at)[places], at[places]


def _of_numbers(values: np.ndarray, below: np.ndarray, at: np.ndarray, column: np.ndarray) -> tuple[float, float]:
    """Return statistic and p-value of the test of Kolmogorov and Smirnov, at the values of a profile."""
    from scipy import special  # here, since importing daynight does not load SciPy

    n, m, column = int(below[-1] + at[-1]), len(column), np.sort(column)
    under, upto = (np.searchsorted(column, values, "left") / m, np.searchsorted(column, values, "right") / m)
    statistic = float(max(np.abs(below / n - under).max(), np.abs((below + at) / n - upto).max()))
    return statistic, float(special.kolmogorov(math.sqrt(n * m / (n + m)) * statistic))


def _of_categories(values: np.ndarray, at: np.ndarray, column: np.ndarray) -> tuple[float, float]:
    """Return total variation and p-value of the two-sample test of counts of categories."""
    from scipy import stats

    new, n_new = np.unique(column, return_counts=True)
    both = np.union1d(values, new)
    cells = np.zeros((2, len(both)), dtype=np.int64)
    for row, (known, of_known) in enumerate(((values, at), (new, n_new))):
        cells[row, np.searchsorted(both, known)] = of_known
    cells = _joined(cells)
    sizes = cells.sum(axis=1, keepdims=True)
    statistic = float(np.abs(np.diff(cells / sizes, axis=0)).sum() / 2)
    if cells.shape[1] == 1:
        return statistic, 1.0
    test = stats.fisher_exact if cells.shape[1] == 2 else stats.chi2_contingency
    return statistic, float(test(cells)[1])


def _joined(cells: np.ndarray) -> np.ndarray:
    """Return counts (2, cells) in which rare cells are joined.

    Which cells are joined depends on the totals of both samples alone, so it favours neither. Values that occur in one
    sample only are rare or not as any others.
    """
    total = cells.sum(axis=0)
    order = np.argsort(-total, kind="stable")
    cells, total = cells[:, order], total[order]
    needed = _LEAST_EXPECTED * total.sum() / cells.sum(axis=1).min()
    n_common = int((total >= needed).sum())
    if n_common == len(total):
        return cells
    # The rare ones are one cell, or part of the rarest of the others if they are too few for that and others are left.
    n_alone = n_common - 1 if n_common > 1 and total[n_common:].sum() < needed else n_common
    return np.column_stack([cells[:, :n_alone], cells[:, n_alone:].sum(axis=1)])


def _holm(p_value: np.ndarray) -> np.ndarray:
    """Return p-values corrected by Holm's method: the k-th smallest times the number of those that are not smaller."""
    order = np.argsort(p_value)
    corrected = np.empty_like(p_value)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p_value[order] * np.arange(len(order), 0, -1)))
    return corrected
