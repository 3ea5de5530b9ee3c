"""Loggers: hooks that show or write the events of a run while it goes on."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import attrs

from daynight.errors import DataError, MissingPackageError, OutputError, SettingError
from daynight.history import COLUMNS, Event, History, Progress, Record, cells_of, columns_of
from daynight.nights.budgets import Budget
from daynight.support import checks, digests


class ProgressBar:
    """Shows day, phase, cycle, loss and the time left, in one line of a terminal. In a file or pipe, shows nothing.

    Args:
        n_days: Number of days of the run.
        n_steps: Optimizer steps that the agent will have taken in its life at the end of the run; None if unknown.
        step: Optimizer steps that the agent has taken already.
        first: Optimizer steps that the agent had taken before the run's first day; the bar does not count these steps.
        stream: Stream that shows the bar, if it is a terminal; None is the standard error.
    """

    def __init__(
        self, n_days: int, n_steps: int | None, step: int = 0, first: int = 0, stream: IO[str] | None = None
    ) -> None:
        from tqdm import tqdm

        self._n_days, self._first = n_days, first
        self._n_cycles: int | None = None
        known = "{desc} |{bar}| {percentage:3.0f}% {elapsed}, {remaining} left"
        self._bar = tqdm(
            total=None if n_steps is None else n_steps - first,
            initial=step - first,
            file=stream or sys.stderr,
            disable=None,  # unless the stream is a terminal
            unit="step",
            dynamic_ncols=True,
            bar_format="{desc}, {n_fmt} steps, {elapsed}" if n_steps is None else known,
        )

    def __call__(self, event: Event) -> None:
        """Update the line."""
        if isinstance(event, Record) and event.kind != "epoch":
            return
        if isinstance(event, Progress):
            self._n_cycles = event.n_cycles
        cycle = "" if event.cycle is None else f" {event.cycle + 1}" + (f"/{self._n_cycles}" if self._n_cycles else "")
        loss = "" if event.loss is None or math.isnan(event.loss) else f", loss {event.loss:.4f}"
        phase = event.phase.upper() if event.phase == "rem" else event.phase
        self._bar.set_description_str(f"day {event.day + 1}/{self._n_days} {phase}{cycle}{loss}", refresh=False)
        self._bar.update(event.step - self._first - self._bar.n)

    def refresh(self) -> None:
        """Draw the line now. Events draw the line at most ten times a second."""
        self._bar.refresh()

    def close(self) -> None:
        """Draw the line a last time, and leave it on the terminal."""
        self._bar.close()


def n_steps_after(known: int, steps_per_epoch: Iterable[int], budgets: Sequence[Budget]) -> int | None:
    """Return the number of optimizer steps after some more days; None if a budget is a budget of time.

    Args:
        known: Number of optimizer steps before these days.
        steps_per_epoch: Optimizer steps in one epoch, for each day.
        budgets: Budgets of each day, such as those of its wake and its night.
    """
    counts = [budget.open(steps).n_steps for steps in steps_per_epoch for budget in budgets]
    return None if None in counts else known + sum(filter(None, counts))


class CSVLogger:
    """Writes each record into a CSV file, a line at a time, in the form of `History.to_csv`.

    With each record the file has the same content as the clock's history, also after a checkpoint was restored, a day
    was abandoned, or a line could not be written. If the file is the log of another run, that log is renamed at the
    first record: ``run.csv`` to the first free name of ``run-1.csv``, ``run-2.csv`` and so on.

    Args:
        path: The file. It must be new, or a log of daynight.

    Raises:
        SettingError: If `path` is not valid, or the file exists and is not a daynight log.
        OutputError: If the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not isinstance(path, str | os.PathLike) or not Path(path).name:
            raise SettingError(f"CSVLogger: path must be the path of a file, such as 'run.csv', not {path!r}.")
        self.path = Path(path).absolute()  # the program may change its folder
        self._history, self._is_begun = History(), False
        self._n, self._size = -1, -1  # records and bytes that the file should have
        self._columns: tuple[str, ...] = ()  # of the file

    def begin(self, history: History) -> None:
        """Begin to log a history.

        Args:
            history: The clock's history, to which records are added.
        """
        has_log = self.path.is_file()
        if has_log and not _is_header(self._start()):
            raise SettingError(f"CSVLogger: {self.path} exists and is not a daynight log. Name another file.")
        self._history, self._is_begun, self._n = history, True, -1
        if len(history) or not has_log:  # a file that cannot be written is noticed now
            self._rewrite()

    def __call__(self, event: Event) -> None:
        """Write a record."""
        if not isinstance(event, Record):
            return
        if not self._is_begun:
            self.begin(self._history)
        if not self._history or self._history.records[-1] is not event:  # no clock has added the event
            self._history.append(event)
        is_next = len(self._history) == self._n + 1 and self.path.is_file() and self.path.stat().st_size == self._size
        if not is_next or not set(columns_of([event])) <= set(self._columns):
            self._rewrite()
            return
        try:
            with self.path.open("a", newline="") as stream:
                csv.writer(stream).writerow(cells_of(event, self._columns))
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror or error}.") from error
        self._note()

    def _rewrite(self) -> None:
        if self._n < 0 and self.path.is_file():
            self._rename_other()
        self._history.to_csv(self.path)
        self._columns = columns_of(self._history)
        self._note()

    def _rename_other(self) -> None:
        """Rename the file if it is the log of another run, which begins with another record."""
        try:
            with self.path.open(newline="") as stream:
                header, *first = [*itertools.islice(csv.reader(stream), 2)] or [[]]
            cells = [str(value) for value in cells_of(self._history.records[0], [n for n in header if n in COLUMNS])]
            if first and first[0] != cells:
                names = (self.path.with_name(f"{self.path.stem}-{n}{self.path.suffix}") for n in itertools.count(1))
                self.path.rename(next(name for name in names if not name.exists()))
        except OSError as error:
            raise OutputError(f"cannot rename {self.path}: {error.strerror or error}.") from error

    def _note(self) -> None:
        self._n, self._size = len(self._history), self.path.stat().st_size

    def _start(self) -> str:
        with self.path.open(errors="replace") as stream:
            return stream.readline(10_000).rstrip("\n")


def _is_header(line: str) -> bool:
    """Return whether a line is the first one of a log."""
    names = line.split(",")
    least = columns_of(())
    return not line or (names[: len(least)] == list(least) and set(names) <= set(COLUMNS))


class TensorBoardLogger:
    """Writes scalars for TensorBoard, over optimizer steps; needs ``pip install "daynight[tensorboard]"``.

    Losses and scores of training and validation are named by their phase, as in ``loss/wake``. The other scalars are
    the density during nights (``night/density``), the free and owned weights (``weights/free``, ``weights/owned``), the
    seconds of each day (``day/seconds``), and each task's loss and score on test data at dusk and dawn
    (``test score/task 0``), and the score without the task (``test score without task/task 0``).

    Args:
        folder: Folder of the run; each run needs its own folder. Points that the folder already holds, from an earlier
            run or from after a restored checkpoint, are hidden from the run's next step on. Points of an abandoned day
            stay.

    Raises:
        SettingError: If `folder` is not a path.
        MissingPackageError: If TensorBoard is not installed.
        OutputError: If the folder cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingPackageError(
                "TensorBoardLogger needs TensorBoard. Install it with: pip install 'daynight[tensorboard]'"
            ) from error
        if not isinstance(folder, str | os.PathLike):
            raise SettingError(f"TensorBoardLogger: folder must be a path, not {folder!r}.")
        self._make, self._folder = SummaryWriter, str(folder)
        self._writer: Any = None

    def begin(self, history: History) -> None:
        """Begin after the last record of a history.

        Args:
            history: The clock's history.
        """
        self.close()
        step = max((record.step + 1 for record in history), default=0)
        try:
            self._writer = self._make(self._folder, purge_step=step)
        except OSError as error:
            raise OutputError(f"cannot write to {self._folder}: {error.strerror or error}.") from error

    def __call__(self, event: Event) -> None:
        """Write the scalars of a record."""
        if not isinstance(event, Record):
            return
        if self._writer is None:
            self.begin(History())
        for name, value in scalars(event).items():
            self._writer.add_scalar(name, value, event.step)
        if event.kind == "day":
            self._writer.flush()

    def close(self) -> None:
        """Write the points that are still in memory, and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def scalars(record: Record, task: str | None = None) -> dict[str, float]:
    """Return the numbers of a record, by the names that TensorBoard and MLflow show.

    Args:
        record: The record.
        task: Name of the evaluated task; None is its index, as in ``task 0``.
    """
    phase, task = record.phase, f"task {record.task}" if task is None else task
    if record.kind == "evaluation" and phase == "before":  # on the day's own data, before they are learnt
        found = {f"score before/{task}": record.score, f"loss before/{task}": record.loss}
    elif record.kind == "evaluation":
        found = {f"test score/{task}": record.score, f"test loss/{task}": record.loss}
        found[f"test score without task/{task}"] = record.score_without_task
    elif record.kind == "day":
        found = {"weights/free": record.free, "weights/owned": record.owned, "day/seconds": record.elapsed_seconds}
    elif record.kind == "trial":
        seen = f"sees {record.sees}"
        found = {f"trial loss/{seen}": record.validation_loss, f"trial score/{seen}": record.validation_score}
    else:
        found = {
            f"loss/{phase}": record.loss, f"validation loss/{phase}": record.validation_loss,
            f"validation score/{phase}": record.validation_score, "night/density": record.density,
        }  # fmt: skip
    return {name: float(value) for name, value in found.items() if value is not None}


class Driver(Protocol):
    """What `MLflowLogger` reads of a clock."""

    agent: Any
    stream: Any
    first_day: int
    history: History
    policy: Any
    wake: Budget
    night: Budget


_NIGHT, _HISTORY = "daynight.night", "daynight.history"
#: What MLflow takes at most: points of metrics per call, characters of a parameter and of a name, runs per search.
_POINTS, _LONGEST_VALUE, _LONGEST_NAME, _RUNS = 1000, 6000, 200, 50_000


class MLflowLogger:
    """Writes each finished night as a run of MLflow; needs ``pip install "daynight[mlflow]"``.

    The run of a night has:

    - as metrics, over optimizer steps, what `TensorBoardLogger` writes for this day, with tasks by their names. Besides
      these, ``test score`` and ``test loss`` are those of the day's own task, and ``day/wake steps`` and ``day/night
      steps`` are the optimizer steps;
    - as parameters, task, day, policy, budgets and seed;
    - as artifacts, ``hypnogram.png`` and, with `model`, the agent's file ``agent/agent.dn``. Such a run becomes a
      version of the registered model, and the alias ``champion`` moves to this version, unless the night was refused.

    A night is written once its task is tested at dawn; without a clock, in `close`. A night that the gate refused has
    no such test: it is written at its end, tagged ``daynight.accepted=false``. A night that the store has already
    is left alone, also after a checkpoint was restored. Nights of the history that the store does not have are written
    when a clock begins or resumes, without the agent's file unless the agent is as that night left it.

    A store that fails does not end a night: there is a warning, and the night is written after the clock's next one,
    when the run is resumed, or in `close`. A program that makes a new clock each night calls `close` after the night:
    what the store does not take then is lost to it. MLflow repeats failed requests to a server for minutes; its
    variable ``MLFLOW_HTTP_REQUEST_MAX_RETRIES`` sets how often.

    Args:
        experiment: Name of the experiment, which is made if there is none.
        tracking_uri: The store, such as ``"sqlite:///mlflow.db"`` or the address of a server; None is MLflow's default.
            With a database, MLflow puts the artifacts of a new experiment into ``mlruns`` in the current folder.
        model: Name of the registered model, which is made if there is none; None stores no agents.

    Raises:
        SettingError: If `experiment` or `model` is not a name that MLflow accepts.
        MissingPackageError: If MLflow is not installed.
    """

    def __init__(self, experiment: str, tracking_uri: str | None = None, model: str | None = None) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise _without_mlflow() from error
        if not isinstance(experiment, str) or not 0 < len(experiment) <= 500:
            raise SettingError(f"MLflowLogger: experiment must be a name of 1 to 500 characters, not {experiment!r}.")
        if tracking_uri is not None:
            checks.kind("MLflowLogger: tracking_uri", tracking_uri, str, "'sqlite:///mlflow.db'")
        if model is not None and not (isinstance(model, str) and re.fullmatch(r"(?!\.*$)[^/:]{1,250}", model.strip())):
            raise SettingError(
                f"MLflowLogger: model must be a name of 1 to 250 characters without '/' and ':', not {model!r}."
            )
        self._make, self._uri, self._name, self._model = MlflowClient, tracking_uri, experiment, model
        self._clock: Driver | None = None
        self._client: Any = None
        self._experiment = ""
        self._history: History | None = None
        self._nights = list[Record]()  # records of the days that are still to be written

    def attach(self, clock: Driver) -> None:
        """Take names, settings and the agent from a clock. Call this before the clock runs, and for each clock.

        Args:
            clock: The `Clock` that has the logger as its hook.

        Raises:
            SettingError: If `clock` is not a clock.
        """
        if not all(hasattr(clock, name) for name in Driver.__annotations__):
            raise SettingError(
                f"MLflowLogger.attach: clock must be the Clock that has the logger as its hook, not {clock!r}. Call "
                "logger.attach(clock) before the clock runs."
            )
        self._clock = clock

    def begin(self, history: History) -> None:
        """Write the nights of a history that the store does not have yet.

        Args:
            history: The clock's history, to which records are added.

        Raises:
            OutputError: If the store fails and the history is still empty. A run that goes on only warns.
            MissingPackageError: If a package that the store needs is not installed.
            SettingError: If there is a `model` and no clock is attached, or if the attached clock is another one than
                that of the history.
        """
        if self._clock is not None and self._clock.history is not history:
            raise SettingError(
                "MLflowLogger: the clock that runs is not the one that was attached, which names agent and settings. "
                "Call logger.attach(clock) for each new clock before it runs."
            )
        self._begin(history)

    def _begin(self, history: History) -> None:
        if self._model is not None and self._clock is None:
            raise SettingError("MLflowLogger: model needs the agent. Call logger.attach(clock) before the clock runs.")
        self.close()
        self._history, self._nights = history, list(history.select(kind="day"))
        try:
            self._open()
        except ImportError as error:
            raise _without_mlflow() from error
        except Exception as error:  # stores raise whatever their databases and networks raise
            if not len(history):
                raise OutputError(f"MLflowLogger: cannot write to {self._where}: {_brief(error)}.") from error
            self._warn(error)
            return
        # The scores of the last day may be still to come.
        self._write(self._nights if not self._nights or self._is_whole(self._nights[-1]) else self._nights[:-1])

    def __call__(self, event: Event) -> None:
        """Keep a record, and write the night if this is its last one."""
        if not isinstance(event, Record):
            return
        if self._history is None:
            self._begin(History())
        assert self._history is not None
        known = self._history.select(day=event.day)
        if not known or known[-1] is not event:  # no clock has added the event
            self._history.append(event)
        if event.kind == "day":
            self._nights.append(event)
        is_test = event.kind == "evaluation" and event.phase == "dawn"
        if _is_refused(event) or (is_test and event.task == event.day):
            self._write(self._nights)

    def close(self) -> None:
        """Write the nights that are still to be written, such as one whose task was not tested at dawn."""
        self._write(self._nights)

    @property
    def _where(self) -> str:
        return "the store of MLflow" if self._uri is None else self._uri

    def _warn(self, error: Exception) -> None:
        warnings.warn(
            f"MLflowLogger: cannot write to {self._where}: {_brief(error)}. What is missing is written after the next "
            "night of this clock, when its run is resumed, or by logger.close(); a new clock does not know it.",
            stacklevel=3,
        )  # fmt: skip

    def _open(self) -> None:
        """Find or make the experiment."""
        from mlflow.exceptions import MlflowException

        self._client = self._client or self._make(self._uri)
        found = self._client.get_experiment_by_name(self._name)
        try:
            self._experiment = found.experiment_id if found else self._client.create_experiment(self._name)
        except MlflowException:
            found = self._client.get_experiment_by_name(self._name)  # another process has made it meanwhile
            if found is None:
                raise
            self._experiment = found.experiment_id

    def _is_whole(self, night: Record) -> bool:
        """Return whether all records of a night are there."""
        assert self._history is not None
        tests = self._history.select(kind="evaluation", phase="dawn", day=night.day, task=night.day)
        return _is_refused(night) or bool(tests)

    def _write(self, nights: Sequence[Record]) -> None:
        """Write nights that the store does not have. If the store fails, warn; they are to be written later."""
        try:
            if nights and not self._experiment:
                self._open()
            found = self._found(nights) if nights else {}
            for night in list(nights):
                self._write_night(night, found)
                self._nights.remove(night)
        except Exception as error:  # as above
            self._warn(error)

    def _found(self, nights: Sequence[Record]) -> Mapping[str, Any]:
        """Return the runs that the store has of some nights, by their keys."""
        tag, value = (_NIGHT, self._key(nights[0])) if len(nights) == 1 else (_HISTORY, self._identity())
        found = self._client.search_runs([self._experiment], f"tags.`{tag}` = '{value}'", max_results=_RUNS)
        return {run.data.tags[_NIGHT]: run for run in found}

    def _identity(self) -> str:
        """Return what the history has as its own: a digest of its first record, the seconds included."""
        assert self._history is not None
        return _digest(attrs.asdict(record) for record in self._history.select()[:1])

    def _key(self, night: Record) -> str:
        """Return what a night has as its own. It is the same for a night that was lived again bit for bit.

        Forks have the same history at first, and a day that was given up has the index of the next one. So the key
        depends on the numbers of the night.
        """
        assert self._history is not None
        numbers = (
            {name: value for name, value in attrs.asdict(record).items() if not name.endswith("_seconds")}
            for record in self._history.select(day=night.day) if record.kind != "evaluation"
        )  # fmt: skip
        return f"{self._identity()}-{night.day}-{_digest(numbers)}"

    def _write_night(self, night: Record, found: Mapping[str, Any]) -> None:
        """Write the run of a night, or the rest of a run that was begun; leave a finished one alone."""
        assert self._history is not None
        records, key = self._history.select(day=night.day), self._key(night)
        run = found.get(key)
        if night not in records or (run is not None and run.info.status == "FINISHED"):
            return  # the day has been given up, or is written
        if run is None:
            began = round(1000 * (time.time() - (night.elapsed_seconds or 0.0)))
            tags = {_NIGHT: key, _HISTORY: self._identity(), "daynight.accepted": str(not _is_refused(night)).lower()}
            run = self._client.create_run(self._experiment, began, tags, self._title(night))
        self._log_numbers(run, night, records)
        with tempfile.TemporaryDirectory() as folder:
            picture = _draw(records, Path(folder) / "hypnogram.png")
            if picture:
                self._client.log_artifact(run.info.run_id, str(picture))
            if self._agent_of(night) is not None:
                path = Path(folder) / "agent.dn"
                self._agent_of(night).save(path)
                self._client.log_artifact(run.info.run_id, str(path), "agent")
                self._register(run, night)
        self._client.set_terminated(run.info.run_id)

    def _log_numbers(self, run: Any, night: Record, records: Sequence[Record]) -> None:
        from mlflow.entities import Metric, Param

        tested = {record.task for record in records if record.task is not None}
        labels = [_label(self._task_name(task)) for task in tested]
        points = list[Metric]()
        # Times that follow from the place of a record: writing it again changes nothing, and the last one counts last.
        for index, record in enumerate(records):
            label = "" if record.task is None else _label(self._task_name(record.task))
            values = scalars(record, label if labels.count(label) == 1 and label else None)
            if record.task == night.day and record.score is not None:
                values["test score"] = record.score
            if record.task == night.day and record.loss is not None:
                values["test loss"] = record.loss
            if record.kind == "day":
                steps = {"day/wake steps": record.wake_steps, "day/night steps": record.night_steps}
                steps |= {"day/trial steps": record.trial_steps}
                values |= {name: float(value) for name, value in steps.items() if value is not None}
            when = run.info.start_time + index
            points += [Metric(name, value, when, record.step) for name, value in values.items()]
        params = {"day": str(night.day), "task": self._name_of(night), "sees": night.sees or ""}
        if self._clock is not None:
            clock = self._clock
            params |= {"policy": repr(clock.policy), "wake": repr(clock.wake), "night": repr(clock.night)}
            params["seed"] = str(clock.agent.seed)
        found = [Param(name, value[:_LONGEST_VALUE]) for name, value in params.items() if value]
        for start in range(0, len(points), _POINTS):
            self._client.log_batch(run.info.run_id, metrics=points[start : start + _POINTS], params=found)

    def _register(self, run: Any, night: Record) -> None:
        """Make the run a version of the model, and the champion unless the night was refused."""
        from mlflow.exceptions import MlflowException

        client, run_id = self._client, run.info.run_id
        try:
            client.create_registered_model(self._model)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        known = [one for one in client.search_model_versions(f"run_id = '{run_id}'") if one.name == self._model]
        version = known[0] if known else client.create_model_version(
            self._model, f"{run.info.artifact_uri}/agent", run_id, tags={"day": str(night.day)}
        )  # fmt: skip
        if not _is_refused(night):
            client.set_registered_model_alias(self._model, "champion", version.version)

    def _agent_of(self, night: Record) -> Any:
        """Return the agent if it is to be stored, and is as a night has left it; None otherwise."""
        if self._model is None or self._clock is None:
            return None
        agent = self._clock.agent
        is_now = agent.phase == "between days" and agent.day == night.day + 1 and agent.days[-1:] == (night,)
        return agent if is_now else None

    def _task_name(self, task: int) -> str:
        names = () if self._clock is None else self._clock.agent.task_names
        return str(names[task]) if task < len(names) else ""

    def _name_of(self, night: Record) -> str:
        """Return the name of a night's task; if the agent does not have the task (any more), that in the stream."""
        name, clock = self._task_name(night.day), self._clock
        place = 0 if clock is None else night.day - clock.first_day
        return str(clock.stream[place].name) if clock and not name and 0 <= place < len(clock.stream) else name

    def _title(self, night: Record) -> str:
        """Return the name of a run: one line, of which databases keep 250 characters."""
        return " ".join(f"day {night.day}, {self._name_of(night)}".split()).rstrip(",")[:_LONGEST_NAME]


def _without_mlflow() -> MissingPackageError:
    return MissingPackageError("MLflowLogger needs MLflow. Install it with: pip install 'daynight[mlflow]'")


def _brief(error: Exception) -> str:
    """Return the first line of an error; those of databases are long, and end with a statement in SQL."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0].rstrip('.')[:300]}"


def _is_refused(night: Record) -> bool:
    """Return whether a record of a day says that the night was refused. Records without a word on it are accepted."""
    return night.kind == "day" and night.accepted == 0


def _digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a short digest of rows of plain values, without fields that are None, such as ones of newer versions."""
    found = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return digests.digest_of([json.dumps(found).encode()])[:16]


def _label(name: str) -> str:
    """Return a name of a task as a part of a metric's name: MLflow refuses most signs, and dots as in a path."""
    return re.sub(r"[^\w.\- ]|^\.+$", "_", name.strip())[:_LONGEST_NAME]


def _draw(records: Iterable[Record], path: Path) -> Path | None:
    """Draw the hypnogram of a day into a file; return None if the day has no epoch to draw."""
    from matplotlib.figure import Figure

    from daynight import plots  # here, since figures load Matplotlib

    upper, lower = Figure(figsize=(9.0, 4.2), layout="constrained").subplots(
        2, 1, sharex=True, height_ratios=(1.0, 1.3)
    )
    try:
        plots.save(plots.hypnogram(History(records), (upper, lower)), path)
    except DataError:
        return None
    return path
