"""The command line: ``daynight run|study|report|verify``, over the same functions that programs call."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from daynight import reports
from daynight._version import __version__
from daynight.agent import Agent
from daynight.cli.expressions import made_of
from daynight.clock import Clock
from daynight.data.tasks import TaskStream
from daynight.errors import DataNotFoundError, SettingError
from daynight.history import COLUMNS, History, Record
from daynight.loggers.night_log import NIGHT_COLUMNS
from daynight.nights.budgets import Budget, Epochs, check_budget
from daynight.nights.policy import require_policy
from daynight.pruning.capacity import Capacity
from daynight.support import atomic, checks
from daynight.support.exits import status_of
from daynight.training.settings import Training

_RUN = """examples:
  daynight run --out first
  daynight run --stream "split_cifar10()" --network "ConvNet()" --policy "OneShot()" --wake 72 --night 72 --out cifar
  daynight run --policy "GradualPruning(72, 0.3)" --night "Seconds(30)" --free-at-end 0.995 --out sparse
  daynight run --stream "mine:stream()" --network "mine:Network(64)" --policy "mine:Policy(3)" --out mine

Text in quotes is a call in Python: of a name of daynight, or of your own as module:name(...), with plain values or such
calls as arguments. A run can be stopped at any time: the same command continues it.
"""
#: How the first line of a history in CSV begins.
_RECORDS = ",".join(COLUMNS[:4])
_REPORT = """examples:
  daynight report first/history.json --out first.html
  daynight report job/2026*.csv --title "The nights of a job" --out job.html
  daynight report runs --by method policy.n free_at_end --values mean_accuracy --out study.html
  daynight report docs/results/study/mnist --where method=packnet free_at_end=0.99 --by policy \
    --values mean_accuracy --against "policy=UniformCycles(n=1)"
"""
_VERIFY = """examples:
  daynight verify first/agent.dn
  daynight verify mine/agent.dn --network "mine:Network(64)" --training "mine:training()"

The exit status is 0 if the numbers of each task are those of its dawn, and 1 if not, or if the file is damaged.
"""
_STUDY = """examples:
  daynight study figure2 --quick
  daynight study figure2 --dataset mnist --seeds 10 --jobs 8
  daynight study figure2 --help
  daynight study figure2 --store docs/results/study/mnist
  daynight study tournament screen --quick
  daynight study explain docs/results/study/mnist 0.9891 free_at_end=0.99
  daynight study pack runs
  daynight study unpack runs

Figures and tables are made by "python -m daynight.study.paper" with the same arguments, those of the tournament by
"python -m daynight.study.tournament". pack and unpack take folders of stores: a packed store has all runs in one file.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return the exit status: 0, or 1 after a line about what is wrong."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["study"] and given[1:] and not given[1].startswith("-"):
        settings = argparse.Namespace(do=study, what=given[1], rest=given[2:])  # the study has its own options
    else:
        settings = _parser().parse_args(given)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # where the user's modules are
    return status_of(lambda: settings.do(settings))


def run(settings: argparse.Namespace) -> None:
    """Run the days of a stream, and save agent, history and report."""
    # Values that take time to load come last.
    training = made_of(settings.training, "--training", "Training(batch_size=128)")
    checks.kind("--training", training, Training, "Training(batch_size=128)")
    policy = made_of(settings.policy, "--policy", "UniformCycles(4)")
    require_policy(policy)
    wake, night = _budget("--wake", settings.wake), _budget("--night", settings.night)
    checks.usable_device(settings.device)
    out = atomic.check_folder(settings.out)
    stream = made_of(settings.stream, "--stream", "split_mnist()")
    stream = TaskStream(stream) if isinstance(stream, list | tuple) else stream
    checks.kind("--stream", stream, TaskStream, "split_mnist()")
    stream = stream.hold_out(settings.hold_out, settings.seed) if settings.hold_out else stream
    agent = Agent(
        lambda: made_of(settings.network, "--network", "MLP(784, 256, 256)"),
        capacity=Capacity(free_at_end=settings.free_at_end, days=len(stream)),
        training=training,
        seed=settings.seed,
        biases=settings.biases,
        device=settings.device,
    )
    clock = Clock(
        agent, stream, policy=policy, wake=wake, night=night, checkpoint=out / "checkpoint",
        progress=not settings.quiet,
    )  # fmt: skip
    title = settings.title or out.resolve().name
    about = f"{stream.source}; {settings.network}, {policy!r}, {training!r}, wake {wake!r}, night {night!r}, "
    about += f"{settings.free_at_end:g} free at the end, biases {settings.biases}, seed {settings.seed}"
    clock.resume()
    print(f"Data: {stream.source}.", flush=True)
    if clock.is_over:
        print("All days are over already.")
    else:
        about_it = {"title": title, "about": about, "metric": clock.history.metric}
        _write_settings(out / "settings.json", settings, stream.source, about_it)
        if agent.n_steps:
            now = f"day {agent.day} ({agent.day + 1}/{len(stream)})"  # as the progress bar has it
            print(f"Resumes on {now}, after {agent.n_steps:,} steps.", flush=True)
    history = clock.run()
    agent.verify()
    agent.save(out / "agent.dn")
    history.to_json(out / "history.json")
    reports.of_run(history, out / "report.html", title, about)
    dawn, end = history.accuracy.diagonal(), history.accuracy[-1]
    print(f"{'task':>12} {'at its dawn':>12} {'at the end':>11} {'weights owned':>14} {'private':>8}")
    for task, day in zip(stream, history.select(kind="day"), strict=True):
        print(f"{task.name:>12} {dawn[day.day]:>12.4f} {end[day.day]:>11.4f} {day.owned:>14,} {day.private:>8,}")
    print(f"{'mean':>12} {dawn.mean():>12.4f} {end.mean():>11.4f}")
    print(f"Wrote agent.dn, history.json, settings.json and report.html into {out}/.")


def study(settings: argparse.Namespace) -> None:
    """Make a figure or table of the paper, run the tournament, explain a number, or pack the runs of a study."""
    from daynight.study import explaining
    from daynight.study.paper import experiments
    from daynight.study.tournament import tournament

    if settings.what == "explain":
        explaining.main(settings.rest)
    elif settings.what == "tournament":
        tournament.main(settings.rest)
    elif settings.what in ("pack", "unpack"):
        _pack(settings.what, settings.rest)
    else:
        experiments.main([settings.what, *settings.rest])


def report(settings: argparse.Namespace) -> None:
    """Write a report of a run, of several in a row, or of a study."""
    paths = list(map(Path, settings.path))
    for path in paths:
        if not path.exists():
            raise DataNotFoundError(f"{path} does not exist. Name the folder of a run, a history, or a study's store.")
    files, first = list(map(_history_at, paths)), paths[0]
    if len(files) > 1 or not files[0].is_dir():
        if settings.by or settings.values or settings.where or settings.against:
            raise SettingError(
                f"--by, --values, --where and --against are for a study's store, and {first} is the history of a run."
            )
        title, about = settings.title or first.resolve().stem, ""
        if len(files) > 1:
            folders = {path.resolve().parent.name for path in paths}
            title = settings.title or (folders.pop() if len(folders) == 1 else "Several runs")
            about = f"{len(files)} histories"
        history = _joined(files)
        if len(files) == 1 and first.is_dir():
            said = _said(first)
            title, about = settings.title or said.get("title", title), said.get("about", "")
            history.metric = said.get("metric", history.metric)
        reports.of_run(history, settings.out, title, about)
    elif not settings.by or not settings.values:
        raise SettingError(_advice(first), page="command")
    else:
        _report_study(first, settings, settings.title or first.resolve().stem)
    print(f"Wrote {settings.out}.")


def _history_at(path: Path) -> Path:
    """Return the history in the folder of a run; for other paths, the path."""
    names = (path / name for name in ("history.json", "history.csv"))
    return next((file for file in names if file.is_file()), path)


def _joined(files: Sequence[Path]) -> History:
    """Return the history of runs of one agent, one after the other.

    Raises:
        SettingError: If a file is a folder or a log of nights, a day is in several files, or agents differ in capacity.
        DataError: If a file is not a history.
    """
    records, of_day, of_capacity = list[Record](), dict[int, Path](), dict[int | None, Path]()
    for file in files:
        if file.is_dir():
            raise SettingError(f"{file} is a folder without a history. To report several runs as one, name histories.")
        if _start_of(file).startswith(f"{','.join(NIGHT_COLUMNS[:2])},"):
            raise SettingError(
                f"{file} is a log of nights, which has a line for each night and no records. Name the histories beside "
                "it, which CSVLogger or to_csv wrote.", page="nightly",
            )  # fmt: skip
        history = History.from_csv(file) if file.suffix == ".csv" else History.from_json(file)
        for day in history.days:
            if day in of_day:
                raise SettingError(
                    f"day {day} is both in {of_day[day]} and in {file}. Name each day once: leave out what is of "
                    "another agent, or of an earlier try, such as 2026-11-02-1.csv beside 2026-11-02.csv.",
                    page="nightly",
                )
            of_day[day] = file
        for record in history.select(kind="day"):
            of_capacity.setdefault(record.capacity, file)
        if len(of_capacity) > 1:
            (one, first), (other, second) = list(of_capacity.items())[:2]
            raise SettingError(
                f"{first} is of an agent with {one or 0:,} weights, and {second} of one with {other or 0:,}. Report "
                "one agent at a time."
            )
        records += history
    return History(records)


def _advice(folder: Path) -> str:
    """Return what to do with a folder that is not that of a run, if no settings are named."""
    names = sorted(file.name for file in folder.glob("*.csv") if _start_of(file).startswith(_RECORDS))
    if not names:
        return (
            f"{folder} has no history. If it is the folder of a store, name settings with --by, and results with "
            "--values."
        )
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(names[0], names[-1], strict=False))
    shown = names[0] if len(names) == 1 else f"{''.join(one for one, _ in same)}*.csv"
    n = "1 history" if len(names) == 1 else f"{len(names)} histories"
    return f"{folder} is not the folder of one run. It has {n}, to be named: daynight report {folder / shown}"


def _start_of(file: Path) -> str:
    """Return the beginning of a file, as text; nothing if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(200).decode(errors="replace")
    except OSError:
        return ""


def _said(folder: Path) -> dict[str, str]:
    """Return the texts by name with which a run describes itself, as `run` and examples write them, if they do."""
    for name in ("settings.json", "result.json"):
        try:
            said = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(said, dict) and isinstance(said.get("about"), str):
            return {name: value for name, value in said.items() if isinstance(value, str)}
    return {}


def _report_study(path: Path, settings: argparse.Namespace, title: str) -> None:
    """Write a report of a study; runs that differ in other settings than those of --by get rows of their own."""
    from daynight.study import Results, Store
    from daynight.study.explaining import filtered, found_as

    results = filtered(Results(Store(path)), settings.where or [])
    by = list(settings.by)
    further = {name: n for own in results.groups(*by).values() for name, n in own.differing().items()}
    if further:
        by = [*further, *by]
        print(f"The runs also differ in {', '.join(further)}: these are in the report, too. --where selects runs.")
    against = dict(found_as(results, text) for text in settings.against or []) or None
    results.report(settings.out, by, settings.values, title, against=against)


def verify(settings: argparse.Namespace) -> None:
    """Read an agent's file, and check that each task's numbers are the same as at its dawn."""
    path = Path(settings.path)
    try:
        agent = Agent.load(
            path / "agent.dn" if (path / "agent.dn").is_file() else path,
            None if settings.network is None else made_of(settings.network, "--network", "mine:Network(64)"),
            training=None if settings.training is None else made_of(settings.training, "--training", "mine:training()"),
        )
    except SettingError as error:
        place = path / "settings.json"
        where = f" {place} has the call that the run was started with." if place.is_file() else ""
        raise SettingError(f"{error} The options are --network and --training.{where}", page=error.page) from error
    for task, owned in enumerate(agent.owned):
        print(f"task {task}: {owned:,} weights, as at its dawn")
    print(f"{agent.n_free:,} of {agent.n_weights:,} weights free, after {agent.day} days and {agent.n_steps:,} steps.")


def _pack(what: str, arguments: Sequence[str]) -> None:
    """Pack or unpack stores, and print a line on each.

    Raises:
        DataNotFoundError: If a folder has no runs.
    """
    from daynight.study import Store

    where = "one file, runs.jsonl" if what == "pack" else "a file of its own each"
    about = f"Put the runs of a study's store into {where}."
    parser = argparse.ArgumentParser(prog=f"daynight study {what}", description=about)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="the folder of a study's store")
    for folder in parser.parse_args(arguments).folders:
        store = Store(folder)
        n_runs = store.pack() if what == "pack" else store.unpack()
        if not n_runs:
            raise DataNotFoundError(
                f"there are no runs in {folder}. Name the folder of a study's store.", page="studies"
            )
        form = f"{store.packed.stat().st_size:,} bytes in {store.packed}" if what == "pack" else "a file each"
        print(f"{folder}: {n_runs:,} runs, {form}")


def _write_settings(path: Path, settings: argparse.Namespace, data: str, about: dict[str, str]) -> None:
    """Write how a run describes itself in its reports, and the options, the data and the versions of a run."""
    given = {name: value for name, value in vars(settings).items() if name not in ("command", "do", "out", "quiet")}
    written = {**about, "settings": given, "data": data}
    written |= {"daynight": __version__, "torch": torch.__version__}
    with atomic.replacing(path) as temporary:
        temporary.write_text(json.dumps(written, indent=2) + "\n")


def _budget(name: str, text: str) -> Budget:
    try:
        n = float(text)
    except ValueError:
        name += " (a number of epochs, or a budget)"
        budget: Budget = made_of(text, name, "Seconds(30)")
        check_budget(name, budget)
        return budget
    return Epochs(n)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="daynight", description="Agents that learn by day and consolidate by night.",
        epilog="'daynight COMMAND --help' shows examples.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"daynight {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, do: Callable[[argparse.Namespace], None], examples: str) -> Any:
        about = (do.__doc__ or "").strip()
        own = commands.add_parser(
            name, help=about[0].lower() + about[1:].rstrip("."), description=about, epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        own.set_defaults(do=do)
        return own.add_argument

    add = command("run", run, _RUN)
    add("--stream", default="split_mnist()", metavar="CALL", help="returns the tasks (%(default)s)")
    add("--network", default="MLP(784, 256, 256)", metavar="CALL", help="makes the network (%(default)s)")
    add("--policy", default="UniformCycles(4)", metavar="CALL", help="lays out the nights (%(default)s)")
    add("--training", default="Training(batch_size=128)", metavar="CALL", help="how a task is learnt (%(default)s)")
    add("--wake", default="6", metavar="BUDGET", help="epochs of each wake, or a budget (%(default)s)")
    add("--night", default="12", metavar="BUDGET", help="epochs of each night, or a budget (%(default)s)")
    add("--free-at-end", type=float, default=0.95, metavar="P", help="fraction free after the last day (%(default)s)")
    add("--biases", choices=("per-task", "freeze-after-first"), default="per-task", help="(%(default)s)")
    add("--hold-out", type=float, default=0.0, metavar="SHARE", help="share of training data for validation (none)")
    add("--seed", type=int, default=0, help="seed of the agent (%(default)s)")
    add("--device", default="cpu", metavar="D", help="device of network and tasks, such as cuda (%(default)s)")
    add("--out", default="daynight_run", metavar="FOLDER", help="folder for results and checkpoints (%(default)s)")
    add("--title", help="title of the report")
    add("--quiet", action="store_true", help="show no progress bar (there is none in a file or pipe either)")
    add = command("study", study, _STUDY)
    add(
        "what",
        help="figure1 to figure4, table1, choices, dips, optimizer, baselines, tournament, explain, pack, unpack; add "
        "--help for its options",
    )
    add = command("report", report, _REPORT)
    add("path", nargs="+", help="the folder of a run, a history, .json or .csv, or several of one agent, which are "
        "joined in the order of their days; or the folder of a study's store")  # fmt: skip
    add("--out", default="report.html", metavar="FILE", help="the file to write (%(default)s)")
    add("--by", nargs="+", metavar="SETTING", help="of a study: settings, of which each combination is a row")
    add("--values", nargs="+", metavar="RESULT", help="of a study: results, with a column and a figure each")
    add("--where", nargs="+", metavar="SETTING=VALUE", help="of a study: only runs with these settings")
    add("--against", nargs="+", metavar="SETTING=VALUE", help="of a study: settings in --by with the values to compare "
        "with; adds differences that are paired by seed")  # fmt: skip
    add("--title", help="title of the report")
    add = command("verify", verify, _VERIFY)
    add("path", help="an agent's file, or the folder of a run")
    add("--network", metavar="CALL", help="makes the network, if it is your own code")
    add("--training", metavar="CALL", help="returns the training, if it has functions of your own")
    return parser
