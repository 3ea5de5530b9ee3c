"""MLflow has each night once, in a real store."""

import sqlite3
import sys
from pathlib import Path

import attrs
import matplotlib.pyplot as plt
import pytest
from resumable import Killed, clock

from daynight import Agent, Clock, Epochs, Gate, History, OneShot, Record, plots
from daynight.data.tasks import TaskStream
from daynight.errors import DataError, MissingPackageError, OutputError, SettingError
from daynight.loggers import MLflowLogger
from daynight.testing import toy_network, toy_stream

# MLflow 3.17 uses what SQLAlchemy 2.1 deprecates.
draw = plots.hypnogram
pytestmark = [
    pytest.mark.usefixtures("_here"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """Return a store without a run: MLflow takes seconds to make one."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("store")
    MlflowClient(f"sqlite:///{folder}/store.db").search_experiments()
    return (folder / "store.db").read_bytes()


@pytest.fixture
def _here(empty_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MLflow puts artifacts beside the program
    (tmp_path / "store.db").write_bytes(empty_store)
    monkeypatch.setattr("daynight.plots.hypnogram", undrawn)  # a figure takes longer than all the rest


def undrawn(*args, **kwargs):
    raise DataError("there is nothing to draw")


@pytest.fixture
def store(tmp_path):
    """Return the address of a store of the test's own: MLflow keeps connections by address."""
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def client(store, _here):
    from mlflow import MlflowClient

    return MlflowClient(store)


def logged(run, *loggers):
    """Return a clock with loggers attached."""
    run.hooks += loggers
    for logger in loggers:
        logger.attach(run)
    return run


def runs(client, experiment="toys"):
    """Return the runs of an experiment, in the order of their days."""
    found = client.get_experiment_by_name(experiment)
    return [] if found is None else sorted(
        client.search_runs([found.experiment_id]), key=lambda run: int(run.data.params["day"])
    )  # fmt: skip


def named(names):
    """Return a function that makes a stream of tasks with these names."""
    return lambda days: TaskStream(
        [attrs.evolve(task, name=name) for task, name in zip(toy_stream(days), names, strict=True)]
    )


def break_store(path):
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE runs RENAME TO lost")
    database.close()


def mend_store(path):
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE lost RENAME TO runs")
    database.close()


def test_a_night_is_a_run(client, store):
    run = clock(make_stream=named(["cats", "dogs"]))
    history = logged(run, MLflowLogger("toys", store)).run()
    first, second = runs(client)
    assert [one.info.run_name for one in (first, second)] == ["day 0, cats", "day 1, dogs"]
    assert {one.info.status for one in (first, second)} == {"FINISHED"}
    assert second.data.params == {
        "day": "1", "task": "dogs", "policy": repr(run.policy), "wake": repr(run.wake), "night": repr(run.night),
        "seed": "3",
    }  # fmt: skip
    (day,) = history.select(kind="day", day=1)
    metrics = second.data.metrics
    assert metrics["weights/free"] == day.free
    assert metrics["weights/owned"] == day.owned
    assert metrics["day/seconds"] == day.elapsed_seconds
    assert metrics["day/night steps"] == day.night_steps
    assert [metrics["test score/cats"], metrics["test score/dogs"]] == list(history.accuracy[1])
    assert metrics["test score"] == history.accuracy[1, 1]
    losses = [(point.step, point.value) for point in client.get_metric_history(second.info.run_id, "loss/wake")]
    assert losses == [(one.step, one.loss) for one in history.select(kind="epoch", day=1, phase="wake")]
    assert len(losses) == 2
    assert not client.search_registered_models()


def test_a_night_has_its_hypnogram(client, store, monkeypatch):
    drawn = []
    monkeypatch.setattr("daynight.plots.hypnogram", lambda history, axes: drawn.append(history) or draw(history, axes))
    history = logged(clock(days=1), MLflowLogger("toys", store)).run()
    (run,) = runs(client)
    picture = Path(client.download_artifacts(run.info.run_id, "hypnogram.png"))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert drawn == [history]
    assert not plt.get_fignums()


def test_the_agent_of_a_night_is_the_champion(client, store, tmp_path):
    run = logged(clock(), MLflowLogger("toys", store, model="toy"))
    run.run()
    versions = client.search_model_versions("name = 'toy'")
    assert {one.run_id for one in versions} == {one.info.run_id for one in runs(client)}
    champion = client.get_model_version_by_alias("toy", "champion")
    assert champion.run_id == runs(client)[1].info.run_id
    path = client.download_artifacts(champion.run_id, "agent/agent.dn", str(tmp_path))
    agent = Agent.load(path, toy_network, training=run.agent.training)
    inputs = run.stream[0].test.inputs[:5]
    assert (agent.predict(inputs, 0) == run.agent.predict(inputs, 0)).all()
    assert agent.day == 2


@pytest.mark.usefixtures("at_every_step")
@pytest.mark.parametrize("last", [("prune", "nrem", None), ("day", "dawn", None), ("evaluation", "dawn", 1)])
def test_a_resumed_clock_writes_no_night_twice(client, store, tmp_path, last):
    def kill(event):
        if isinstance(event, Record) and event.day == 1 and (event.kind, event.phase, event.task) == last:
            raise Killed

    run = logged(clock(tmp_path / "run"), MLflowLogger("toys", store, model="toy"))
    run.hooks.append(kill)
    with pytest.raises(Killed):
        run.run()
    for _ in range(2):
        logged(clock(tmp_path / "run"), MLflowLogger("toys", store, model="toy")).run()
    assert [one.info.run_name[:5] for one in runs(client)] == ["day 0", "day 1"]
    versions = client.search_model_versions("name = 'toy'")
    assert len(versions) == 2
    assert client.get_model_version_by_alias("toy", "champion").version == max(one.version for one in versions)
    assert all("test score" in one.data.metrics for one in runs(client))


def test_a_missed_night_is_written_later(client, store, tmp_path):
    clock(tmp_path / "run").run(until=1)
    run = logged(clock(tmp_path / "run"), MLflowLogger("toys", store, model="toy"))
    run.resume()
    (first,) = runs(client)
    assert first.data.metrics["test score"] == run.history.accuracy[0, 0]
    assert client.get_model_version_by_alias("toy", "champion").run_id == first.info.run_id
    clock(tmp_path / "run").run()
    logged(clock(tmp_path / "run"), MLflowLogger("toys", store)).run()
    assert len(runs(client)) == 2


def test_a_night_that_is_long_over_gets_no_agent(client, store, tmp_path):
    clock(tmp_path / "run").run()
    logged(clock(tmp_path / "run"), MLflowLogger("toys", store, model="toy")).resume()
    first, second = runs(client)
    assert not client.list_artifacts(first.info.run_id)
    assert [one.run_id for one in client.search_model_versions("name = 'toy'")] == [second.info.run_id]


def test_a_run_that_was_begun_is_completed(client, store, monkeypatch):
    from mlflow import MlflowClient

    run = logged(clock(), MLflowLogger("toys", store, model="toy"))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_terminated", failing)
        with pytest.warns(UserWarning, match="ConnectionError: the server is gone. What is missing"):
            run.run(until=1)
    (half,) = runs(client)
    assert half.info.status == "RUNNING"
    run.run()
    first, _ = runs(client)
    assert first.info.run_id == half.info.run_id
    assert first.info.status == "FINISHED"
    assert len(client.get_metric_history(first.info.run_id, "loss/wake")) == 2
    assert len(client.search_model_versions("name = 'toy'")) == 2


def failing(*args, **kwargs):
    raise ConnectionError("the server is gone\nSELECT 1")


def test_two_experiments_and_two_runs_stay_apart(client, store):
    shared = clock()
    logged(shared, MLflowLogger("toys", store), MLflowLogger("others", store)).to_dusk()
    fork = shared.fork(policy=OneShot())
    shared.run()
    logged(fork, MLflowLogger("toys", store)).run()
    assert len(runs(client)) == 4  # the forks have the first record in common
    assert len(runs(client, "others")) == 2
    logged(clock(), MLflowLogger("others", store)).run()
    assert len(runs(client, "others")) == 4


def test_a_store_that_fails_ends_no_night(client, store, tmp_path):
    logger = MLflowLogger("toys", store)
    run = logged(clock(), logger)
    run.resume()
    break_store(tmp_path / "store.db")
    with pytest.warns(UserWarning, match=r"cannot write to sqlite.*What is missing is written after the next night"):
        run.run(until=1)
    assert run.history.n_days == 1
    mend_store(tmp_path / "store.db")
    run.run()
    assert len(runs(client)) == 2


def test_a_store_that_fails_is_said_before_the_first_night(store, tmp_path):
    (tmp_path / "store.db").write_text("no database")
    with pytest.raises(OutputError, match="MLflowLogger: cannot write to sqlite"):
        logged(clock(), MLflowLogger("toys", store)).resume()
    history = clock().run(until=1)
    with pytest.warns(UserWarning, match="cannot write to"):
        MLflowLogger("toys", store).begin(history)


def test_names_that_mlflow_refuses_are_rewritten(client, store):
    names = ["a,b/c: 50 %\n(é)", "..", "x" * 400]
    history = logged(clock(days=3, make_stream=named(names)), MLflowLogger("week 1: a/b, 'c'", store)).run()
    found = runs(client, "week 1: a/b, 'c'")
    assert [one.info.run_name for one in found] == ["day 0, a,b/c: 50 % (é)", "day 1, ..", "day 2, " + "x" * 193]
    assert [one.data.params["task"] for one in found] == names
    metrics = found[2].data.metrics
    scores = [metrics[f"test score/{name}"] for name in ("a_b_c_ 50 ___é_", "_", "x" * 200)]
    assert scores == list(history.accuracy[2])


def test_tasks_without_a_name_of_their_own_are_named_by_index(client, store):
    run = clock(make_stream=named(["", ""]))
    logged(run, MLflowLogger("toys", store)).run()
    assert [one.info.run_name for one in runs(client)] == ["day 0", "day 1"]
    assert {"test score/task 0", "test score/task 1"} <= set(runs(client)[1].data.metrics)


def versions(*sizes):
    """Return a function that makes a stream of versions of one task, each with so many examples."""
    days = [toy_stream(1, n_train=size)[0] for size in sizes]
    return lambda _: TaskStream([attrs.evolve(task, name="digits", succeeds="digits") for task in days])


GATE = Gate(tolerance=1, least=5)  # which refuses only days of few examples


def test_a_refused_night_is_written_and_is_no_champion(client, store):
    run = clock(days=3, make_stream=versions(40, 10, 40), gate=GATE)
    logged(run, MLflowLogger("toys", store, model="toy")).run(until=2)
    assert run.agent.refused is not None
    first, refused = runs(client)
    assert [one.data.tags["daynight.accepted"] for one in (first, refused)] == ["true", "false"]
    assert (refused.info.run_name, refused.info.status) == ("day 1, digits", "FINISHED")
    assert refused.data.params["task"] == "digits"
    assert not client.list_artifacts(refused.info.run_id)
    assert client.get_model_version_by_alias("toy", "champion").run_id == first.info.run_id
    run.run()
    found = runs(client)
    assert [one.data.tags["daynight.accepted"] for one in found] == ["true", "false", "true"]
    assert {one.run_id for one in client.search_model_versions("name = 'toy'")} == {
        found[0].info.run_id, found[2].info.run_id,
    }  # fmt: skip
    assert client.get_model_version_by_alias("toy", "champion").run_id == found[2].info.run_id


def test_a_job_with_a_new_clock_each_night_has_a_run_for_each(client, store, tmp_path):
    clock(days=3, gate=GATE).agent.save("agent.dn")
    for task in versions(40, 10, 40)(3).hold_out(0.2):
        agent = Agent.load("agent.dn", toy_network)
        night = Clock(
            agent, [task], first_day=agent.day, policy=OneShot(), wake=Epochs(2), night=Epochs(2),
            checkpoint=tmp_path / str(agent.day),
        )  # fmt: skip
        logged(night, MLflowLogger("toys", store, model="toy")).run()
        agent.save("agent.dn")
    assert [(one.info.run_name, one.data.tags["daynight.accepted"]) for one in runs(client)] == [
        ("day 0, digits", "true"), ("day 1, digits", "false"), ("day 2, digits", "true"),
    ]  # fmt: skip
    assert len(client.search_model_versions("name = 'toy'")) == 2
    logged(clock_of(night, tmp_path / "2"), MLflowLogger("toys", store, model="toy")).resume()
    assert len(runs(client)) == 3


def clock_of(run, checkpoint):
    """Return a clock that resumes from the checkpoint of another."""
    return Clock(
        run.agent, run.stream, first_day=run.first_day, policy=run.policy, wake=run.wake, night=run.night,
        checkpoint=checkpoint,
    )  # fmt: skip


def test_a_refused_night_of_a_resumed_clock_is_written(client, store, tmp_path):
    settings = {"days": 2, "make_stream": versions(40, 10), "gate": GATE}
    clock(tmp_path / "run", **settings).run()
    logged(clock(tmp_path / "run", **settings), MLflowLogger("toys", store, model="toy")).resume()
    first, refused = runs(client)
    assert (refused.info.run_name, refused.data.tags["daynight.accepted"]) == ("day 1, digits", "false")
    assert first.info.run_name == "day 0, digits"
    assert not client.search_registered_models()  # day 0 is over for long


@pytest.mark.parametrize("model", [None, "toy"])
def test_a_logger_of_a_second_clock_that_was_not_attached_is_refused(client, store, model):
    logger = MLflowLogger("toys", store, model=model)
    logged(clock(days=1), logger).run()
    second = clock(days=1)
    second.hooks.append(logger)
    with pytest.raises(SettingError, match=r"not the one that was attached.*Call logger.attach\(clock\) for each"):
        second.run()
    assert second.agent.n_steps == 0
    logger.attach(second)
    second.run()
    assert len(runs(client)) == 2


def test_only_a_clock_can_be_attached(store):
    for other in (clock().agent, None, "clock", toy_stream(1)):
        with pytest.raises(SettingError, match=r"attach: clock must be the Clock .* Call logger.attach\(clock\)"):
            MLflowLogger("toys", store, model="toy").attach(other)


def test_what_a_clock_of_one_night_could_not_write_is_written_by_close(client, store, tmp_path):
    for is_closed in (False, True):
        logger = MLflowLogger("toys", store)
        run = logged(clock(days=1), logger)
        run.resume()
        break_store(tmp_path / "store.db")
        with pytest.warns(UserWarning, match=r"by logger.close\(\); a new clock does not know it"):
            run.run()
        mend_store(tmp_path / "store.db")
        if is_closed:
            logger.close()
        logged(clock(days=1), MLflowLogger("toys", store)).resume()
        assert len(runs(client)) == is_closed


def test_an_agent_without_a_clock_is_written_at_the_end(client, store):
    run, logger = clock(), MLflowLogger("toys", store)
    run.agent.wake(run.stream[0], run.wake, logger)
    run.agent.sleep(run.policy, run.night, logger)
    assert not runs(client)
    logger.close()
    (found,) = runs(client)
    assert found.info.run_name == "day 0"
    logger.close()
    assert len(runs(client)) == 1


def test_a_logger_of_two_clocks_writes_what_the_first_has_left(client, store):
    logger = MLflowLogger("toys", store)
    run = clock()
    run.agent.wake(run.stream[0], run.wake, logger)
    run.agent.sleep(run.policy, run.night, logger)
    logged(clock(days=1), logger).run()
    assert len(runs(client)) == 2


def test_what_is_no_name_is_refused(store):
    for experiment in (None, "", 3, "x" * 501):
        with pytest.raises(SettingError, match="experiment must be a name"):
            MLflowLogger(experiment)
    for model in ("", " ", "a/b", "a:b", "..", 3, "x" * 251):
        with pytest.raises(SettingError, match="model must be a name"):
            MLflowLogger("toys", model=model)
    with pytest.raises(SettingError, match="tracking_uri must be a str"):
        MLflowLogger("toys", 3)
    with pytest.raises(SettingError, match=r"Call logger.attach\(clock\)"):
        MLflowLogger("toys", store, model="toy").begin(History())


def test_mlflow_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'daynight\[mlflow\]'"):
        MLflowLogger("toys")
