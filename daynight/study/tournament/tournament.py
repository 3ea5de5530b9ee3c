"""The tournament of sleep policies, in three stages.

    python -m daynight.study.tournament screen|choose|report --jobs 2

Policies are designed and chosen on a part of MNIST's training data that is held out, with seeds of their own, and
reported on test data. To choose, each sleeps a night on each day of a life that has otherwise uniform cycles (N = 8),
and all share that life. The screen looks at all of them, at one p: of each kind, the best goes on. These and uniform
cycles are then looked at with more seeds and at each p, to choose an N for each, and one policy for all p, which is the
one recommended. The report is of whole lives, on MNIST and on streams that nothing was chosen on. A stage does what is
missing of those before it. Stop it at any time: the same command goes on.
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
from daynight.study import methods, nights, statistics, tables
from daynight.study.paper import drawing, setups
from daynight.study.paper.setups import Fetch, Plan
from daynight.study.results import Results
from daynight.study.runner import Study
from daynight.study.tables import Rows
from daynight.study.tournament.contestants import DESIGNS, UNIFORM, Named
from daynight.support import atomic, checks

#: The fractions free at the end that all of it is about, and the one of the screen.
PRUNINGS, SCREENED = (0.95, 0.99, 0.995), 0.995
#: Seeds of each stage, and share of the training data that choices are made on.
SCREENING, CHOOSING, REPORTING, HELD_OUT = range(100, 103), range(100, 110), range(10), 1 / 6
#: What a report can be of.
STREAMS = ("mnist", "permuted", "rotated", "cifar10-small")
#: What everything is compared with: the night of PackNet.
ONCE = "uniform 1"


def streams(data: str | None = None) -> dict[str, Plan]:
    """Give the streams, and how they are learnt.

    Args:
        data: Where the images come from; see `daynight.split_mnist`. None insists on all of them.
    """
    source: Any = data or "full"
    mnist = attrs.evolve(setups.full("mnist", data), prunings=PRUNINGS)
    others: dict[str, Callable[..., Any]] = {
        "permuted": functools.partial(permuted_mnist, 5, data=source, n_train=12_000),
        "rotated": functools.partial(rotated_mnist, (0, 30, 60, 90, 120), data=source, n_train=12_000),
    }
    return {
        "mnist": mnist,
        **{name: attrs.evolve(mnist, stream=stream) for name, stream in others.items()},
        # The highest p of the study's for this network, whose first layer has no weights for every day at p = 0.995.
        "cifar10-small": attrs.evolve(setups.full("cifar10-small", data), prunings=PRUNINGS[:1], n_cycle_seeds=5),
    }


@attrs.frozen(kw_only=True, slots=False)
class Tournament:
    """Its stages, each made of what those before it have found.

    Attributes:
        plans: How each stream is learnt, by its name.
        fetch: Gives the runs of ``"nights"`` to choose on, or of a stream by its name: does or reads them.
        uniform: Uniform cycles, by name; `ONCE` is among them.
        designs: The designs, by kind and name.
        screening: Seeds of the screen.
        choosing: Seeds to choose with.
        reporting: Seeds to report, or the first few of them, as each plan has it.

    Raises:
        SettingError: If there is no plan of MNIST or no `ONCE`, a name is there twice, a kind is empty, or something is
            no policy.
    """

    plans: Mapping[str, Plan]
    fetch: Callable[[str], Fetch]
    uniform: Named = attrs.field(factory=lambda: UNIFORM)
    designs: Mapping[str, Named] = attrs.field(factory=lambda: DESIGNS)
    screening: Sequence[int] = SCREENING
    choosing: Sequence[int] = CHOOSING
    reporting: Sequence[int] = REPORTING

    def __attrs_post_init__(self) -> None:
        if "mnist" not in self.plans:
            raise SettingError("Tournament: plans must have 'mnist', on which policies are chosen.")
        if not self.designs:
            raise SettingError("Tournament: designs must have a kind of them, such as {'mine': {'mine 3': policy}}.")
        names = set[str]()
        for kind, named in {"uniform": self.uniform, **self.designs}.items():
            if not isinstance(named, Mapping) or not named:
                raise SettingError(f"Tournament: {kind} must have policies by their names, not {named!r}.")
            for name, policy in named.items():
                checks.kind(f"Tournament: {name}", policy, SleepPolicy, "dn.UniformCycles(3)")
                if name in names:
                    raise SettingError(f"Tournament: there are two policies named {name!r}. Give each its own name.")
                names.add(name)
        if ONCE not in self.uniform:
            raise SettingError(f"Tournament: uniform must have {ONCE!r}, with which all are compared.")

    def few(self) -> Tournament:
        """Give the same with few policies and seeds."""
        return attrs.evolve(
            self, uniform=dict(list(self.uniform.items())[:3]), screening=self.screening[:2],
            choosing=self.choosing[:2], reporting=self.reporting[:2],
            designs={kind: dict(list(named.items())[:1]) for kind, named in self.designs.items()},
        )  # fmt: skip

    @functools.cached_property
    def screened(self) -> Rows:
        """Nights of all policies at the p of the screen; the best first."""
        found = self._by_seed(self._nights(SCREENED, self.screening, self._entered))
        return sorted(_compared(SCREENED, found, {ONCE: ONCE}), key=_error)

    @functools.cached_property
    def chosen_from(self) -> Rows:
        """Nights of uniform cycles and of the best design of each kind, at each p."""
        rows: Rows = []
        for p in self.plans["mnist"].prunings:
            rows += sorted(_compared(p, self.held_out(p), {ONCE: ONCE}), key=_error)
        return rows

    def held_out(self, p: float) -> dict[str, dict[int, float]]:
        """Give the mean accuracy over the days where choices are made, by policy and seed.

        Args:
            p: Fraction of weights free at the end.
        """
        return self._by_seed(self._nights(p, self.choosing, self.uniform | self.finalists))

    def reported(self, stream: str) -> Rows:
        """Whole lives on test data, at each p.

        Args:
            stream: Its name.

        Raises:
            SettingError: If there is no such stream.
        """
        names = self.reports(stream)
        return [row for p in self.plans[stream].prunings for row in self.judged(stream, p, names)]

    def reports(self, stream: str) -> list[str]:
        """Name what is reported: on MNIST all that was chosen from, and elsewhere the policy that was chosen.

        Args:
            stream: Its name.

        Raises:
            SettingError: If there is no such stream.
        """
        checks.one_of("Tournament: stream", stream, self.plans)
        return [*self.uniform, *self.finalists] if stream == "mnist" else self.ranked[:1]

    def judged(self, stream: str, p: float, names: Sequence[str], than: Mapping[str, str] | None = None) -> Rows:
        """Whole lives on test data at one p: of some policies, and of those that they are compared with.

        Args:
            stream: Its name.
            p: Fraction of weights free at the end.
            names: The policies'; with all uniform cycles among them, what is gained over the best of these, too.
            than: Names of those to compare with, by what to call each; None for `ONCE` and the N that was chosen.

        Raises:
            SettingError: If there is no such stream, nothing was chosen at that p, or one is no finalist.
        """
        checks.one_of("Tournament: stream", stream, self.plans)
        checks.one_of("Tournament: p", p, self.plans["mnist"].prunings)
        for name in (*names, *(than or {}).values()):
            checks.one_of("Tournament: policy", name, self.uniform | self.finalists)
        baselines = {ONCE: ONCE, "best uniform": self.best_uniform[p]} if than is None else dict(than)
        wanted = {*baselines.values(), *names}
        entered = {name: policy for name, policy in (self.uniform | self.finalists).items() if name in wanted}
        plan = self.plans[stream]
        seeds = self.reporting[: plan.n_cycle_seeds]
        results = self.fetch(stream)(methods.packnet, seeds, **plan.choices([p], policy=list(entered.values())))
        found = {name: results.select(policy=one).values("mean_accuracy") for name, one in entered.items()}
        if self.uniform.keys() <= set(names):
            baselines["best uniform in hindsight"] = max(self.uniform, key=lambda name: sum(found[name].values()))
        return self.marked(_compared(p, found, baselines))

    def marked(self, rows: Rows) -> Rows:
        """Add which are the N that was chosen at the row's p, and the policy that was chosen for all p.

        Args:
            rows: Each of a p and a policy.
        """
        picked = {p: {uniform: "N", self.ranked[0]: "policy"} for p, uniform in self.best_uniform.items()}
        return [{**row, "chosen": picked[row["p"]].get(row["policy"], "")} for row in rows]

    @property
    def finalists(self) -> Named:
        """The design of each kind that does best in the screen."""
        places = {row["policy"]: place for place, row in enumerate(self.screened)}
        best = [min(named, key=places.__getitem__) for named in self.designs.values()]
        return {name: self._entered[name] for name in best}

    @property
    def best_uniform(self) -> dict[float, str]:
        """The uniform cycles that do best at each p, where choices are made."""
        found: dict[float, str] = {}
        for row in sorted(self.chosen_from, key=_error):
            if row["policy"] in self.uniform:
                found.setdefault(row["p"], row["policy"])
        return found

    @property
    def ranked(self) -> list[str]:
        """The finalists, the best first, by their error over that of one prune a night, on average over p."""
        once = {row["p"]: max(_error(row), 1e-9) for row in self.chosen_from if row["policy"] == ONCE}
        scores = dict.fromkeys(self.finalists, 0.0)
        for row in self.chosen_from:
            if row["policy"] in scores:
                scores[row["policy"]] += _error(row) / once[row["p"]]
        return sorted(scores, key=scores.__getitem__)

    def night_of(self, name: str) -> tuple[Cycle, ...]:
        """Give the second night of a policy at the p of the screen: as planned or, of one that reacts, as it was.

        Args:
            name: The policy's.

        Raises:
            SettingError: If there is no such policy.
        """
        checks.one_of("Tournament: policy", name, self._entered)
        plan, policy = self.plans["mnist"], self._entered[name]
        dawn = kept_fraction_per_night(SCREENED, len(plan.tasks))
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
        """Give a night of each policy on each day of a life with uniform cycles."""
        plan = self.plans["mnist"]
        return self.fetch("nights")(
            nights.one_night, seeds, network=plan.network, training=plan.training, wake=Epochs(plan.epochs),
            night=Epochs(plan.budget), free_at_end=p, usual=UniformCycles(8), day=list(range(len(plan.tasks))),
            policy=list(entered.values()),
            remember=tuple(sorted({share for policy in self._entered.values() for share in policy.rewinds})),
        )  # fmt: skip

    def _by_seed(self, results: Results) -> dict[str, dict[int, float]]:
        """Give the mean accuracy over the days, by policy and seed."""
        found = {}
        for name, policy in self._entered.items():
            days = [day.values("accuracy") for day in results.select(policy=policy).groups("day").values()]
            if days:
                found[name] = {seed: sum(day[seed] for day in days) / len(days) for seed in days[0]}
        return found


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m daynight.study.tournament", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("stage", choices=("screen", "choose", "report"), help="what to make")
    add("--stream", choices=STREAMS, default="mnist", help="what to report on (mnist)")
    add("--jobs", type=int, default=1, metavar="J", help="processes at a time (1)")
    add("--device", default="cpu", metavar="D", help="where runs are done, such as cuda; jobs share it (cpu)")
    add("--quick", action="store_true", help="few images, epochs, seeds and policies: ends in minutes, and shows no "
        "more than that everything runs")  # fmt: skip
    add("--data", choices=("full", "sample", "auto"), help="all of the images (default), or MNIST's sample of 5,000")
    add("--out", default="tournament", metavar="FOLDER", help="where figures and tables go (tournament)")
    add("--store", metavar="FOLDER", help="where the runs are kept, in a folder for nights and one for each stream "
        "(FOLDER/runs)")  # fmt: skip
    add("--states", metavar="FOLDER", help="where unfinished runs put their state after each day, and first dusks are "
        "put by for other runs; delete it at the end (nowhere)")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Do the runs that are missing, and write figure and table."""
    settings = parse(arguments)
    checks.whole("--jobs", settings.jobs, least=1)
    checks.usable_device(settings.device)
    if settings.stage != "report" and settings.stream != "mnist":
        raise SettingError(f"--stream is for report, and says nothing of {settings.stage}: all is chosen on MNIST.")
    out = atomic.check_folder(settings.out)
    store = atomic.check_folder(settings.store or out / "runs")
    contest = _contest(settings, store)
    stage = settings.stream if settings.stage == "report" else settings.stage
    if settings.stage == "report":
        contest.plans[settings.stream].stream()  # what cannot be had is missed before the runs that it builds on
        rows = contest.reported(settings.stream)
    else:
        rows = contest.screened if settings.stage == "screen" else contest.marked(contest.chosen_from)
    name = stage + ("_quick" if settings.quick else "")
    drawing.save(drawing.contest(rows, contest.night_of), out, name)
    tables.write(out / f"{name}.csv", rows)
    print(tables.text(rows))
    print(f"Written: {out / name}.pdf, .png and .csv; the runs are in {store}.")


def _contest(settings: argparse.Namespace, store: Path) -> Tournament:
    known = streams(settings.data or ("auto" if settings.quick else None))
    if settings.quick:
        known = {
            name: attrs.evolve(setups.quick(plan), prunings=(0.9, *{SCREENED}.intersection(plan.prunings)))
            for name, plan in known.items()
        }
    chosen_on = functools.partial(nights.held_out, known["mnist"].stream, HELD_OUT)
    judged: dict[str, Callable[[], TaskStream]] = {"nights": chosen_on}
    judged |= {name: plan.stream for name, plan in known.items()}

    def fetch(stage: str) -> Fetch:
        states = None if settings.states is None else atomic.check_folder(settings.states) / stage
        study = Study(store / stage, jobs=settings.jobs, progress=True, states=states, device=settings.device)
        return setups.doing(judged[stage], study)

    contest = Tournament(plans=known, fetch=fetch)
    return contest.few() if settings.quick else contest


def _compared(p: float, found: Mapping[str, Mapping[int, float]], baselines: Mapping[str, str]) -> Rows:
    return [{"p": p, "policy": name, **row} for name, row in statistics.errors(found, baselines).items()]


def _error(row: Mapping[str, Any]) -> float:
    return float(row["error %"])
