"""`MLflowLogger`: each night as a run of MLflow, and accepted agents as versions of a registered model."""

from __future__ import annotations

import json
import re
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs

from daynight.errors import DataError, MissingPackageError, OutputError, SettingError
from daynight.history import Event, History, Record
from daynight.loggers.tensorboard import scalars
from daynight.nights.budgets import Budget
from daynight.support import checks, digests


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
    no such test: it is written at its end, with the tag ``daynight.accepted=false``. The tag ``daynight.reason`` has
    what the gate says of a night. A night that the store has already is left alone, also after a checkpoint was
    restored. Nights of the history that the store does not have are written when a clock begins or resumes, without the
    agent's file unless the agent is as that night left it.

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
        if self._history.last != event:  # no clock has added the event
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
            tags |= {"daynight.reason": night.gate_reason} if night.gate_reason else {}
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
