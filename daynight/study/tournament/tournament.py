"""The tournament of sleep policies, in three stages.

    python -m daynight.study.tournament screen|choose|report --jobs 2

Policies are designed and chosen on held-out training data of MNIST, with seeds of their own, and reported on test data.
For the choice, each policy runs one night on each day of a run that otherwise has uniform cycles (N = 8) and that all
policies share. The screen compares all policies at one p; the best of each kind is a finalist. The finalists and
uniform cycles are then compared with more seeds and at each p. This chooses one N for each p, and one policy for all p,
which is the recommended one. The report is of whole runs, on MNIST and on streams on which nothing was chosen. A stage
also does the missing runs of the stages before it. The command can be stopped at any time; the same command then
continues. Data are read only if runs are missing:

    python -m daynight.study.tournament report --store docs/results/study

draws from the committed runs, offline.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from daynight.data.streams import permuted_mnist, rotated_mnist
from daynight.data.tasks import TaskStream
from daynight.errors import SettingError
from daynight.nights.budgets import Epochs, Steps
from daynight.nights.cycle import Cycle, Night
from daynight.nights.policy import SleepPolicy, planned
from daynight.nights.schedules import UniformCycles
from daynight.pruning.capacity import kept_fraction_per_night
from daynight.study import commands, methods, nights, statistics
from daynight.study.paper import drawing, setups
from daynight.study.paper.setups import Fetch, Setup
from daynight.study.results import Results
from daynight.study.store import Store
from daynight.study.tables import Rows
from daynight.study.tournament.contestants import DESIGNS, UNIFORM, Named, in_words
from daynight.support import checks

#: The fractions of weights free at the end (p) in the tournament, and the one in its screen.
PRUNINGS, SCREENED = (0.95, 0.99, 0.995), 0.995
#: Seeds of each stage, and the held-out share of the training data.
SCREENING, CHOOSING, REPORTING, HELD_OUT = range(100, 103), range(100, 110), range(10), 1 / 6
#: The streams for which a report can be made.
STREAMS = ("mnist", "permuted", "rotated", "cifar10-small")
#: The policy that all are compared with: the night of PackNet.
ONCE = "uniform 1"


def streams(data: str | None = None) -> dict[str, Setup]:
    """Return the setup of each stream, by its name.

    Args:
        data: Where the images come from; see `daynight.split_mnist`. None requires all of them.
    """
    source: Any = data or "full"
    mnist = attrs.evolve(setups.full("mnist", data), prunings=PRUNINGS)
    others: dict[str, Callable[..., Any]] = {
        "permuted": functools.partial(permuted_mnist, 5, data=source, n_train=12_000),
        "rotated": functools.partial(rotated_mnist, (0, 30, 60, 90, 120), data=source, n_train=12_000),
    }
    digests = {name: setups.DATA[name] if source == "full" else None for name in others}
    return {
        "mnist": mnist,
        **{name: attrs.evolve(mnist, stream=stream, data=digests[name]) for name, stream in others.items()},
        # The paper's highest p for this network, whose first layer has no weights for some days at p = 0.995.
        "cifar10-small": attrs.evolve(setups.full("cifar10-small", data), prunings=PRUNINGS[:1], n_cycle_seeds=5),
    }


@attrs.frozen(kw_only=True, slots=False)
class Tournament:
    """The stages of the tournament, each based on the results of those before it.

    Attributes:
        setups: The setup of each stream, by its name.
        fetch: Function of ``"nights"`` (on which policies are chosen) or the name of a stream to its `Fetch`.
        uniform: Uniform cycles, by name; `ONCE` is one of them.
        designs: The other policies, by kind and name.
        screening: Seeds of the screen.
        choosing: Seeds of the choice.
        reporting: Seeds of the reports, of which each stream has the first `Setup.n_cycle_seeds`.

    Raises:
        SettingError: If there is no setup of MNIST or no `ONCE`, two policies share a name, a kind is empty, or a
            uniform policy or a design is not a policy.
    """

    setups: Mapping[str, Setup]
    fetch: Callable[[str], Fetch]
    uniform: Named = attrs.field(factory=lambda: UNIFORM)
    designs: Mapping[str, Named] = attrs.field(factory=lambda: DESIGNS)
    screening: Sequence[int] = SCREENING
    choosing: Sequence[int] = CHOOSING
    reporting: Sequence[int] = REPORTING

    def __attrs_post_init__(self) -> None:
        if "mnist" not in self.setups:
            raise SettingError("Tournament: setups must have 'mnist', on which policies are chosen.")
        if not self.designs:
            raise SettingError("Tournament: designs must have at least one kind, such as {'mine': {'mine 3': policy}}.")
        names = set[str]()
        for kind, named in {"uniform": self.uniform, **self.designs}.items():
            if not isinstance(named, Mapping) or not named:
                raise SettingError(f"Tournament: {kind} must be a dict of policies by name, not {named!r}.")
            for name, policy in named.items():
                checks.kind(f"Tournament: {name}", policy, SleepPolicy, "dn.UniformCycles(3)")
                if name in names:
                    raise SettingError(f"Tournament: there are two policies named {name!r}. Give each its own name.")
                names.add(name)
        if ONCE not in self.uniform:
            raise SettingError(f"Tournament: uniform must have {ONCE!r}, with which all are compared.")

    def few(self) -> Tournament:
        """Return a tournament with a few of the policies and seeds."""
        return attrs.evolve(
            self, uniform=dict(list(self.uniform.items())[:3]), screening=self.screening[:2],
            choosing=self.choosing[:2], reporting=self.reporting[:2],
            designs={kind: dict(list(named.items())[:1]) for kind, named in self.designs.items()},
        )  # fmt: skip

    @functools.cached_property
    def screened(self) -> Rows:
        """Results of all policies' nights at the p of the screen, the best policy first."""
        found = self._by_seed(self._nights(SCREENED, self.screening, self._entered))
        return sorted(_compared(SCREENED, found, {ONCE: ONCE}), key=_error)

    @functools.cached_property
    def chosen_from(self) -> Rows:
        """What the choice is made from, which are the nights of the uniform policies and of the finalists at each p."""
        rows: Rows = []
        for p in self.setups["mnist"].prunings:
            rows += sorted(_compared(p, self.held_out(p), {ONCE: ONCE}), key=_error)
        return rows

    def held_out(self, p: float) -> dict[str, dict[int, float]]:
        """Return the mean accuracy over the days on held-out data, by policy and seed.

        Args:
            p: Fraction of weights free at the end.
        """
        return self._by_seed(self._nights(p, self.choosing, self.uniform | self.finalists))

    def reported(self, stream: str) -> Rows:
        """Return results of whole runs on test data, at each p.

        Args:
            stream: Its name.

        Raises:
            SettingError: If there is no such stream.
        """
        names = self.reports(stream)
        return [row for p in self.setups[stream].prunings for row in self.judged(stream, p, names)]

    def reports(self, stream: str) -> list[str]:
        """Return the names of a report's policies: on MNIST all compared policies, on other streams the chosen one.

        Args:
            stream: Its name.

        Raises:
            SettingError: If there is no such stream.
        """
        checks.one_of("Tournament: stream", stream, self.setups)
        return [*self.uniform, *self.finalists] if stream == "mnist" else self.ranked[:1]

    def judged(self, stream: str, p: float, names: Sequence[str], than: Mapping[str, str] | None = None) -> Rows:
        """Return results of whole runs on test data at one p: of some policies, and of policies to compare with.

        Args:
            stream: Its name.
            p: Fraction of weights free at the end.
            names: Names of the policies. If they include all uniform cycles, the gain over the best uniform cycles is
                added.
            than: Names of the policies to compare with, by their label; None for `ONCE` and the chosen N.

        Raises:
            SettingError: If there is no such stream, nothing was chosen at that p, or a policy is not a finalist.
        """
        checks.one_of("Tournament: stream", stream, self.setups)
        checks.one_of("Tournament: p", p, self.setups["mnist"].prunings)
        for name in (*names, *(than or {}).values()):
            checks.one_of("Tournament: policy", name, self.uniform | self.finalists)
        baselines = {ONCE: ONCE, "best uniform": self.best_uniform[p]} if than is None else dict(than)
        wanted = {*baselines.values(), *names}
        entered = {name: policy for name, policy in (self.uniform | self.finalists).items() if name in wanted}
        setup = self.setups[stream]
        seeds = self.reporting[: setup.n_cycle_seeds]
        results = self.fetch(stream)(methods.packnet, seeds, **setup.choices([p], policy=list(entered.values())))
        found = {name: results.select(policy=one).values("mean_accuracy") for name, one in entered.items()}
        if self.uniform.keys() <= set(names):
            baselines["best uniform in hindsight"] = max(self.uniform, key=lambda name: sum(found[name].values()))
        return self.with_choices(_compared(p, found, baselines))

    def with_choices(self, rows: Rows) -> Rows:
        """Return rows with a column that marks the N chosen at the row's p, and the policy chosen for all p.

        Args:
            rows: Each with a p and a policy.
        """
        picked = {p: {uniform: "N", self.ranked[0]: "policy"} for p, uniform in self.best_uniform.items()}
        return [{**row, "chosen": picked[row["p"]].get(row["policy"], "")} for row in rows]

    @functools.cached_property
    def finalists(self) -> Named:
        """The best design of each kind in the screen, by name."""
        places = {row["policy"]: place for place, row in enumerate(self.screened)}
        best = [min(named, key=places.__getitem__) for named in self.designs.values()]
        return {name: self._entered[name] for name in best}

    @functools.cached_property
    def best_uniform(self) -> dict[float, str]:
        """The name of the best uniform cycles at each p, on held-out data."""
        found: dict[float, str] = {}
        for row in sorted(self.chosen_from, key=_error):
            if row["policy"] in self.uniform:
                found.setdefault(row["p"], row["policy"])
        return found

    @functools.cached_property
    def ranked(self) -> list[str]:
        """Names of the finalists, by the ratio of their error to that of `ONCE`, averaged over p; the best first."""
        once = {row["p"]: max(_error(row), 1e-9) for row in self.chosen_from if row["policy"] == ONCE}
        scores = dict.fromkeys(self.finalists, 0.0)
        for row in self.chosen_from:
            if row["policy"] in scores:
                scores[row["policy"]] += _error(row) / once[row["p"]]
        return sorted(scores, key=scores.__getitem__)

    def night_of(self, name: str) -> tuple[Cycle, ...]:
        """Return the cycles of a policy's second night at the p of the screen: as planned or, if it reacts, as run.

        Args:
            name: The policy's name.

        Raises:
            SettingError: If there is no such policy.
        """
        checks.one_of("Tournament: policy", name, self._entered)
        setup, policy = self.setups["mnist"], self._entered[name]
        dawn = kept_fraction_per_night(SCREENED, len(setup.tasks))
        cycles = planned(policy, Night(day=1, budget=Steps(10**6), n_steps=10**6, steps_per_epoch=1, dawn_density=dawn))
        if cycles is not None:
            return cycles
        results = self._nights(SCREENED, self.screening, self._entered)
        prunes = results.select(policy=policy, day=1, seed=self.screening[0]).entries[0]["result"]["prunes"]
        ends = [begin for begin, _ in prunes[1:]] + [1.0]
        return tuple(
            Cycle(keep=density, length=end - begin) for (begin, density), end in zip(prunes, ends, strict=True)
        )

    @functools.cached_property
    def _entered(self) -> Named:
        return {name: policy for named in (self.uniform, *self.designs.values()) for name, policy in named.items()}

    def _nights(self, p: float, seeds: Sequence[int], entered: Named) -> Results:
        """Return the results of a night of each policy on each day of a run with uniform cycles."""
        setup = self.setups["mnist"]
        return self.fetch("nights")(
            nights.one_night, seeds, network=setup.network, training=setup.training, wake=Epochs(setup.epochs),
            night=Epochs(setup.budget), free_at_end=p, usual=UniformCycles(8), day=list(range(len(setup.tasks))),
            policy=list(entered.values()),
            remember=tuple(sorted({share for policy in self._entered.values() for share in policy.rewinds})),
        )  # fmt: skip

    def _by_seed(self, results: Results) -> dict[str, dict[int, float]]:
        """Return the mean accuracy over the days, by policy and seed."""
        found = {}
        for name, policy in self._entered.items():
            days = [day.values("accuracy") for day in results.select(policy=policy).groups("day").values()]
            if days:
                found[name] = {seed: sum(day[seed] for day in days) / len(days) for seed in days[0]}
        return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = commands.new_parser(
        "tournament", __doc__, "figures and tables", ", with a folder for each stage or stream"
    )
    add = parser.add_argument
    add("stage", choices=("screen", "choose", "report"), help="what to make")
    add("--stream", choices=STREAMS, default="mnist", help="stream of the report (mnist)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the missing runs, and write figure and table."""
    settings = parse(arguments)
    if settings.stage != "report" and settings.stream != "mnist":
        raise SettingError(
            f"--stream goes with the stage 'report' only: the stage {settings.stage!r} always uses MNIST."
        )
    commands.check(settings)
    settings.store = store_of_all(settings)
    contest = contest_of(settings)
    if settings.stage == "report":
        setup = contest.setups[settings.stream]
        if not settings.done and (setup.data is None or not len(commands.study_of(settings, settings.stream).store)):
            setup.stream()  # missing data are found before the runs that it builds on
        rows = contest.reported(settings.stream)
    else:
        rows = contest.screened if settings.stage == "screen" else contest.with_choices(contest.chosen_from)
    figure = drawing.contest(rows, contest.night_of, in_words)
    commands.write(settings, settings.stream if settings.stage == "report" else settings.stage, figure, rows)


def store_of_all(settings: argparse.Namespace) -> str | None:
    """Return the folder with the stores of all streams; ``--store`` may also name that of the stage's own stream.

    Raises:
        SettingError: If it names the store of another stream, or of another study.
    """
    if settings.store is None or not Path(settings.store).is_dir() or not len(Store(settings.store)):
        return settings.store  # type: ignore[no-any-return]
    folder = Path(settings.store).absolute()
    own = settings.stream if settings.stage == "report" else "nights"
    if folder.name == own and (folder.parent / "nights").is_dir():
        return str(folder.parent)
    wanted = " and ".join(f"{name!r}" for name in dict.fromkeys(("nights", own)))
    raise SettingError(
        f"--store {settings.store} is itself a folder of runs. Name the one above, such as {folder.parent}, in which "
        f"each stream has a folder: {settings.stage} reads {wanted} there, since policies are chosen by single nights.",
        page="choosing",
    )


def contest_of(settings: argparse.Namespace) -> Tournament:
    """Return the tournament that the command line asks for."""
    known = streams(commands.data_of(settings))
    if settings.quick:
        known = {
            name: attrs.evolve(setups.quick(setup), prunings=(0.9, *{SCREENED}.intersection(setup.prunings)))
            for name, setup in known.items()
        }
    chosen_on = functools.partial(nights.held_out, known["mnist"].stream, HELD_OUT)
    judged: dict[str, Callable[[], TaskStream]] = {"nights": chosen_on}
    judged |= {name: setup.stream for name, setup in known.items()}
    digests = {name: setup.data for name, setup in known.items()}
    digests["nights"] = None if known["mnist"].data is None else setups.DATA["nights"]

    def fetch(stage: str) -> Fetch:
        return commands.fetch_of(settings, judged[stage], digests[stage], stage)

    contest = Tournament(setups=known, fetch=fetch)
    return contest.few() if settings.quick else contest


def _compared(p: float, found: Mapping[str, Mapping[int, float]], baselines: Mapping[str, str]) -> Rows:
    return [{"p": p, "policy": name, **row} for name, row in statistics.errors(found, baselines).items()]


def _error(row: Mapping[str, Any]) -> float:
    return float(row["error %"])
