r"""How many test images get the right digit if nobody says which task they belong to, and which way tells best.

Agents learn five tasks of MNIST: split (pairs of digits), rotated (0 to 60 degrees) or permuted pixels. Then several
ways choose a task for each image, and the head of that task gives the digit. Of split MNIST, an answer is right if task
and digit are; of the others, if the digit is. The ways marked with "100 kept" may also use 100 training images, equally
many of each task. `--tried` adds the ways that were compared on validation data before `daynight.networks.identify` was
written; nothing is chosen on test data. The column none_auroc says how well a way tells images of a task that it does
not know from images of the others: each task is left out once (area under the ROC curve, mean over the tasks).

    DAYNIGHT_DATA=/data python benchmarks/without_task.py --seeds 10 --out without_task.csv
    DAYNIGHT_DATA=/data python benchmarks/without_task.py --seeds 3 --on validation --tried --streams split \
        --out without_task.csv

An agent of split MNIST takes about 40 s on one thread, the others about two minutes. A run that was cut off continues
its file; with `--show` it only prints the means.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import rows
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

import daynight as dn
from daynight.networks import identify

N_TASKS = 5
STREAMS: dict[str, tuple[Callable[[str], dn.TaskStream], float]] = {
    # A stream, and the epochs of each wake and of each night: equally many steps, since tasks of all digits have five
    # times as many images.
    "split": (lambda data: dn.split_mnist(data=data), 8.0),
    "rotated": (lambda data: dn.rotated_mnist([0, 15, 30, 45, 60], data=data), 2.0),
    "permuted": (lambda data: dn.permuted_mnist(N_TASKS, data=data), 2.0),
}
COLUMNS = ("stream", "seed", "on", "way", "bytes_per_task", "right_digit", "right_task", "none_auroc")
N_KEPT = 100
CHUNK = 2048

Way = tuple[str, int, Tensor]  # its name, bytes per task, and a score (n, tasks) of which the largest is chosen


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seeds", type=int, default=10, metavar="N", help="seeds 0 to N - 1 (10)")
    add("--data", default="auto", choices=("auto", "full", "sample"), help="which MNIST (auto)")
    add("--streams", nargs="+", default=list(STREAMS), choices=list(STREAMS), help="which streams (all)")
    add("--on", default="test", choices=("test", "validation"), help="which images are counted (test)")
    add("--tried", action="store_true", help="also the ways that were not chosen")
    add("--epochs", type=float, metavar="E", help="epochs of each wake and night (8 of split, 2 of others)")
    add("--show", action="store_true", help="print the means of the file, and run nothing")
    add("--out", type=Path, required=True, metavar="CSV", help="the table; a run that was cut off continues it")
    return parser.parse_args()


def main() -> None:
    """Run all seeds of all streams, and print the means."""
    settings = parse()
    torch.set_num_threads(1)
    if not settings.show:
        if not settings.out.exists():
            settings.out.write_text(f"# {rows.versions(())}\n" + ",".join(COLUMNS) + "\n")
        done = {(row["stream"], int(row["seed"]), row["on"]) for row in rows.read(settings.out)[1]}
        for seed in range(settings.seeds):
            for name in settings.streams:
                if (name, seed, settings.on) not in done:
                    append(settings.out, list(measure(name, seed, settings)))
                    print(f"{name}, seed {seed}: done", flush=True)
    show(settings.out)


def append(path: Path, found: Sequence[dict[str, Any]]) -> None:
    """Write the rows of a seed at once, so that a seed in the file is complete."""
    with path.open("a", newline="") as stream:
        csv.DictWriter(stream, COLUMNS, lineterminator="\n").writerows(found)


def measure(name: str, seed: int, settings: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield a row for each way to choose a task."""
    make, epochs = STREAMS[name]
    stream = make(settings.data).hold_out(0.1, seed)
    agent = learnt(stream, seed, settings.epochs or epochs)
    asked = Asked.of(agent, stream, settings.on)
    for way, n_bytes, score in ways(agent, stream, asked, seed, settings.tried):
        chosen = score.argmax(1)
        is_task = chosen == asked.task
        is_digit = asked.digits.gather(1, chosen[:, None])[:, 0] == asked.digit
        right = is_digit & is_task if name == "split" else is_digit
        yield {
            "stream": name, "seed": seed, "on": settings.on, "way": way, "bytes_per_task": n_bytes,
            "right_digit": f"{right.double().mean():.4f}", "right_task": f"{is_task.double().mean():.4f}",
            "none_auroc": "" if way == "the task is named" else f"{left_out(score, asked.task):.4f}",
        }  # fmt: skip


def learnt(stream: dn.TaskStream, seed: int, epochs: float) -> dn.Agent:
    """Return an agent that has learnt all tasks; 5 % of its weights are then owned."""
    agent = dn.Agent(
        lambda: dn.models.MLP(784, 256, 256),
        capacity=dn.Capacity(free_at_end=0.95, days=len(stream)),
        training=dn.Training(batch_size=128),
        seed=seed,
    )
    for task in stream:
        agent.wake(task, dn.Epochs(epochs))
        agent.sleep(dn.UniformCycles(4), dn.Epochs(epochs))
    return agent


@attrs.frozen(eq=False)
class Asked:
    """The images that are asked about, and what each task's head says of them."""

    inputs: Tensor
    task: Tensor
    digit: Tensor  # within the task
    features: list[Tensor]  # by task, under its mask, before its head
    logits: list[Tensor]  # by task

    @classmethod
    def of(cls, agent: dn.Agent, stream: dn.TaskStream, split: str) -> Asked:
        """Return the images of a split of all tasks."""
        loaded = [task.splits()[split].load() for task in stream]
        inputs, digit = (torch.cat(parts) for parts in zip(*loaded, strict=True))
        task = torch.cat([torch.full((len(y),), index) for index, (_, y) in enumerate(loaded)])
        both = [features_of(agent, index, inputs) for index in range(len(stream))]
        return cls(inputs, task, digit, [found for found, _ in both], [logits for _, logits in both])

    @property
    def digits(self) -> Tensor:
        """For each image, the digit that each task's head says: (n, tasks)."""
        return torch.stack([logits.argmax(1) for logits in self.logits], 1)


def features_of(agent: dn.Agent, task: int, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the head of a task reads, under the task's mask, and the outputs of the head."""
    network, read, logits = agent.network, [], []
    hook = network.heads.of(task).register_forward_pre_hook(lambda _, given: read.append(given[0].double()))
    with network.viewing(task) as compute:
        for chunk in inputs.split(CHUNK):
            logits.append(compute(chunk).double())
    hook.remove()
    return torch.cat(read), torch.cat(logits)


def ways(agent: dn.Agent, stream: dn.TaskStream, asked: Asked, seed: int, with_tried: bool) -> Iterator[Way]:
    """Yield all ways to choose a task."""
    energy = torch.stack([logits.logsumexp(1) for logits in asked.logits], 1)
    yield "the task is named", 0, functional.one_hot(asked.task, len(stream)).double()
    yield "largest confidence", 0, torch.stack([x.log_softmax(1).max(1).values for x in asked.logits], 1)
    yield "energy", 0, energy  # Liu et al., NeurIPS 2020
    own = [Gaussian.of(features_of(agent, index, x)[0], y, 32) for index, (x, y) in enumerate(trains(stream))]
    distances = -torch.stack([g.distance(found) for g, found in zip(own, asked.features, strict=True)], 1)
    yield "own features, Mahalanobis", own[0].n_bytes, distances  # Lee et al., NeurIPS 2018

    signatures = list[identify.Signature]()
    for task in stream:
        signatures.append(identify.fit(task.train, task.validation, signatures))
    n_bytes = max(one.n_bytes for one in signatures)
    scores = densities(signatures, asked.inputs)
    yield "signature", n_bytes, scores

    kept = [keep(x, N_KEPT // len(stream), seed) for x, _ in trains(stream)]
    task_of_kept = torch.arange(len(stream)).repeat_interleave(N_KEPT // len(stream))
    n_kept = N_KEPT // len(stream) * kept[0][0].numel()
    sketched = identify.sketch(asked.inputs)
    nearest = torch.stack([-torch.cdist(sketched, identify.sketch(x)).min(1).values for x in kept], 1)
    yield "nearest of 100 kept", n_kept, nearest
    every = torch.cat(kept)
    known = torch.stack([features_of(agent, i, every)[1].logsumexp(1) for i in range(len(stream))], 1)
    yield "energy, shifted by 100 kept", n_kept, shifted(energy, known, task_of_kept)
    known = densities(signatures, every)
    yield "signature, shifted by 100 kept", n_kept + n_bytes, shifted(scores, known, task_of_kept)
    if with_tried:
        yield from tried(stream, asked, scores, energy, n_bytes)


def tried(stream: dn.TaskStream, asked: Asked, scores: Tensor, energy: Tensor, n_bytes: int) -> Iterator[Way]:
    """Yield ways that were not chosen."""
    mix = torch.randn(784, 1024, generator=torch.Generator().manual_seed(0)).double() / 28
    spaces: dict[str, Callable[[Tensor], Tensor]] = {
        "pixels": lambda x: x.flatten(1).double(),
        "sketch": identify.sketch,
        "1024 random ReLU": lambda x: (x.flatten(1).double() @ mix).relu(),
    }
    for name, space in spaces.items():
        found = [(space(x), y) for x, y in trains(stream)]
        asked_here = space(asked.inputs)
        fitted = [Gaussian.of(x, y, 16) for x, y in found]
        width = asked_here.shape[1]
        near = -torch.stack([torch.cdist(asked_here, g.means).min(1).values for g in fitted], 1)
        yield f"{name}, nearest class mean", 4 * fitted[0].means.numel(), near
        # Streaming LDA: one full covariance of all tasks (Hayes and Kanan, CVPRW 2020; in random features as RanPAC,
        # McDonnell et al., NeurIPS 2023, whose ridge regression it resembles).
        within = sum(g.scatter for g in fitted) / sum(len(y) for _, y in found)
        steady = within + 1e-3 * within.diagonal().mean() * torch.eye(width).double()
        white = torch.linalg.cholesky(torch.linalg.inv(steady))
        lda = -torch.stack([torch.cdist(asked_here @ white, g.means @ white).min(1).values for g in fitted], 1)
        yield f"{name}, LDA", 4 * (fitted[0].means.numel() + width**2 // len(stream)), lda
        logs = torch.stack([g.log_density(asked_here) for g in fitted], 1)
        yield f"{name}, a covariance per task", fitted[0].n_bytes, logs
        per_class = [[Gaussian.of(x[y == label], y[y == label] * 0, 16) for label in y.unique()] for x, y in found]
        logs = torch.stack(
            [torch.stack([g.log_density(asked_here) for g in each], 1).logsumexp(1) for each in per_class], 1
        )
        yield f"{name}, a covariance per class", sum(g.n_bytes for g in per_class[0]), logs
    for share in (0.3, 1, 3):
        yield f"signature + {share:g} energy", n_bytes, scores + share * energy
    confidence = torch.stack([x.log_softmax(1).max(1).values for x in asked.logits], 1)
    for share in (0.3, 3):
        yield f"signature + {share:g} log confidence", n_bytes, scores + share * confidence


@attrs.frozen(eq=False)
class Gaussian:
    """Class means, and one covariance of low rank plus a multiple of the identity."""

    means: Tensor
    scatter: Tensor
    axes: Tensor
    variances: Tensor
    noise: Tensor

    @classmethod
    def of(cls, found: Tensor, labels: Tensor, rank: int) -> Gaussian:
        """Return the Gaussian of features (n, features), with directions along which they vary."""
        means = torch.stack([found[labels == label].mean(0) for label in labels.unique()])
        centred = found - means[labels.unique(return_inverse=True)[1]]
        scatter = centred.T @ centred
        variances, axes = torch.linalg.eigh(scatter / len(found))
        variances = variances.clamp(min=0) + 1e-3 * variances.mean()
        return cls(means, scatter, axes[:, -rank:], variances[-rank:], variances[:-rank].mean())

    @property
    def n_bytes(self) -> int:
        """Bytes in float32."""
        return 4 * (self.means.numel() + self.axes.numel() + len(self.variances) + 1)

    def distance(self, found: Tensor) -> Tensor:
        """Return the squared Mahalanobis distance to the nearest class mean: (n,)."""
        return torch.stack([self._distance(found - mean) for mean in self.means], 1).min(1).values

    def log_density(self, found: Tensor) -> Tensor:
        """Return the log density, up to a constant, of equally frequent classes: (n,)."""
        logs = torch.stack([-0.5 * self._distance(found - mean) for mean in self.means], 1)
        rest = self.axes.shape[0] - self.axes.shape[1]
        volume = self.variances.log().sum() + rest * self.noise.log()
        return logs.logsumexp(1) - torch.tensor(float(len(self.means))).log() - 0.5 * volume

    def _distance(self, centred: Tensor) -> Tensor:
        along = centred @ self.axes
        others = (centred.square().sum(1) - along.square().sum(1)).clamp(min=0)
        return (along.square() / self.variances).sum(1) + others / self.noise


def trains(stream: dn.TaskStream) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield training inputs and labels of each task."""
    for task in stream:
        yield task.train.load()


def densities(signatures: Sequence[identify.Signature], inputs: Tensor) -> Tensor:
    """Return the log density of inputs under each signature, divided by the temperature: (n, tasks)."""
    found = identify.sketch(inputs)
    return torch.stack([one.log_density(found) for one in signatures], 1) / identify.temperature_of(signatures)


def keep(inputs: Tensor, n: int, seed: int) -> Tensor:
    """Return some examples, drawn uniformly."""
    return inputs[torch.randperm(len(inputs), generator=torch.Generator().manual_seed(seed))[:n]]


def shifted(scores: Tensor, known: Tensor, task: Tensor) -> Tensor:
    """Return scores (n, tasks) with a factor, and a shift per task, that fit kept examples by logistic regression."""
    centre, scale = known.mean(), known.std()
    free = torch.zeros(1 + scores.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([free], max_iter=200, line_search_fn="strong_wolfe")

    def apply(x: Tensor) -> Tensor:
        return (x - centre) / scale * free[0].exp() + free[1:]

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(apply(known), task) + 0.01 * free[1:].square().mean()
        value.backward()
        return value

    optimizer.step(loss)
    return apply(scores).detach()


def left_out(score: Tensor, task: Tensor) -> float:
    """Return how well the largest score tells a task that is left out from the others: the mean AUROC over tasks."""
    found = []
    for index in range(score.shape[1]):
        largest = score[:, torch.arange(score.shape[1]) != index].max(1).values
        known, unknown = largest[task != index], largest[task == index]
        found.append(stats.mannwhitneyu(known, unknown).statistic / (len(known) * len(unknown)))
    return statistics.mean(found)


def show(path: Path) -> None:
    """Print mean and standard deviation over the seeds."""
    groups = defaultdict[tuple[str, str, str], list[dict[str, str]]](list)
    for row in rows.read(path)[1]:
        groups[row["stream"], row["on"], row["way"]].append(row)
    print(f"\n{'':60} {'seeds':>5} {'right digit':>16} {'right task':>11} {'none AUROC':>11} {'bytes/task':>11}")
    for (stream, on, way), found in groups.items():
        digits = [float(row["right_digit"]) for row in found]
        spread = statistics.stdev(digits) if len(digits) > 1 else 0.0
        tasks = statistics.mean(float(row["right_task"]) for row in found)
        none = [float(row["none_auroc"]) for row in found if row["none_auroc"]]
        print(
            f"{f'{stream} ({on}), {way}':60} {len(found):>5} {statistics.mean(digits):>8.4f} ± {spread:.4f} "
            f"{tasks:>10.4f} {statistics.mean(none) if none else float('nan'):>11.3f} {found[0]['bytes_per_task']:>11}"
        )


if __name__ == "__main__":
    main()
