"""Loggers write what happens while a run goes on."""

import sys

import pytest
import torch
from resumable import Killed, Killer, clock

from daynight import History, Progress, Record
from daynight.errors import MissingPackageError, OutputError, SettingError
from daynight.loggers import CSVLogger, TensorBoardLogger, scalars

pytestmark = pytest.mark.usefixtures("at_every_step")


def test_a_csv_file_grows_line_by_line(tmp_path):
    path = tmp_path / "run.csv"
    lengths = []

    def looks(event):
        lengths.append(len(History.from_csv(path)))

    run = clock(hook=[CSVLogger(path), looks])
    run.resume()
    assert len(History.from_csv(path)) == 0
    history = run.run()
    assert History.from_csv(path) == history
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 10


def test_a_csv_file_is_only_added_to(tmp_path, monkeypatch):
    written, to_csv = [], History.to_csv
    monkeypatch.setattr(History, "to_csv", lambda history, path: written.append(to_csv(history, path)))
    path = tmp_path / "run.csv"
    history = clock(hook=CSVLogger(path), days=5).run()
    assert len(written) == 1
    assert History.from_csv(path) == history


def test_a_run_that_goes_on_leaves_every_line_once(tmp_path):
    path = tmp_path / "run.csv"
    with pytest.raises(Killed):
        clock(tmp_path / "run", [CSVLogger(path), Killer(21)]).run()
    before = History.from_csv(path)
    history = clock(tmp_path / "run", CSVLogger(path)).run()
    assert History.from_csv(path) == history
    assert 0 < len(before) < len(history)


@pytest.mark.parametrize("keeps", [(), ("signature",)])
def test_a_log_gets_the_columns_that_its_records_have(keeps, tmp_path):
    path = tmp_path / "run.csv"
    history = clock(hook=CSVLogger(path), keeps=keeps).run()
    assert History.from_csv(path) == history
    history.to_csv(tmp_path / "again.csv")
    assert path.read_text() == (tmp_path / "again.csv").read_text()
    assert path.read_text().splitlines()[0].endswith(",elapsed_seconds" + ",score_without_task" * len(keeps))


def test_the_log_of_an_older_version_which_lacks_a_column_goes_on(tmp_path):
    path = tmp_path / "run.csv"
    with pytest.raises(Killed):
        clock(tmp_path / "run", [CSVLogger(path), Killer(21)], keeps=("signature",)).run()
    lines = path.read_text().splitlines()
    assert lines[0].endswith("elapsed_seconds,score_without_task")
    path.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n")
    before = History.from_csv(path)
    history = clock(tmp_path / "run", CSVLogger(path), keeps=("signature",)).run()
    assert History.from_csv(path) == history
    assert 0 < len(before) < len(history)
    assert [file.name for file in tmp_path.glob("*.csv")] == ["run.csv"]


def test_a_fork_logs_the_history_that_it_has(tmp_path):
    run = clock()
    run.to_dusk()
    fork = run.fork(on_event=CSVLogger(tmp_path / "fork.csv"))
    history = fork.run()
    assert History.from_csv(tmp_path / "fork.csv") == history


def test_an_agent_without_a_clock_can_be_logged(tmp_path):
    run, logger = clock(), CSVLogger(tmp_path / "run.csv")
    run.agent.wake(run.stream[0], run.wake, logger)
    assert [record.kind for record in History.from_csv(tmp_path / "run.csv")] == ["epoch", "epoch"]


def test_a_file_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        CSVLogger(tmp_path / "file" / "run.csv")(Record(kind="day", day=0, phase="dawn", step=3))
    logger = CSVLogger(tmp_path / "run.csv")
    logger.begin(History())
    (tmp_path / "run.csv").unlink()
    (tmp_path / "run.csv").mkdir()
    with pytest.raises(OutputError, match="cannot write to"):
        logger(Record(kind="day", day=0, phase="dawn", step=3))


def shown(folder):
    """Return what TensorBoard shows of a folder: (step, value) by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder)).Reload()
    return {name: [(one.step, one.value) for one in found.Scalars(name)] for name in found.Tags()["scalars"]}


def expected(history):
    found = {}
    for record in history:
        for name, value in scalars(record).items():
            found.setdefault(name, []).append((record.step, float(torch.tensor(value, dtype=torch.float32))))
    return found


def test_a_score_before_a_day_is_no_test_score():
    record = Record(kind="evaluation", day=3, phase="before", step=7, task=2, loss=0.5, score=0.9)
    assert scalars(record, "digits") == {"score before/digits": 0.9, "loss before/digits": 0.5}


def test_tensorboard_shows_what_happened(tmp_path):
    logger = TensorBoardLogger(tmp_path / "board")
    history = clock(hook=logger).run()
    logger.close()
    found = shown(tmp_path / "board")
    assert found == expected(history)
    assert {"loss/wake", "loss/rem", "validation score/nrem", "night/density", "weights/free"} <= set(found)
    assert len(found["test score/task 0"]) == 4


def test_tensorboard_shows_a_run_that_went_on_once(tmp_path):
    board = tmp_path / "board"
    first = TensorBoardLogger(board)
    with pytest.raises(Killed):
        clock(tmp_path / "run", [first, Killer(21)]).run()
    first.close()
    second = TensorBoardLogger(board)
    history = clock(tmp_path / "run", second).run()
    second.close()
    found, wanted = shown(board), expected(history)
    assert found.keys() == wanted.keys()
    for name, points in wanted.items():
        assert sorted(set(found[name])) == sorted(set(points)), name


def test_a_csv_file_is_the_history_whatever_goes_wrong(tmp_path):
    path = tmp_path / "run.csv"
    for order in (1, -1):
        killer = Killer(21)
        run = clock(hook=[killer, CSVLogger(path)][::order])
        with pytest.raises(Killed):
            run.run()
        killer.left = 10**9
        path.write_bytes(path.read_bytes()[:-5])  # as when the disk was full
        history = run.run()
        assert History.from_csv(path) == history
    run = clock(hook=CSVLogger(path))
    run.to_dusk()
    path.unlink()
    run.agent.abandon_day()
    history = run.run()
    assert History.from_csv(path) == history


def test_a_log_stays_until_there_is_another_and_other_files_stay(tmp_path):
    path = tmp_path / "run.csv"
    history = clock(hook=CSVLogger(path)).run()
    again = clock(hook=CSVLogger(path))
    again.resume()
    assert History.from_csv(path) == history
    again.to_dusk()
    assert History.from_csv(path) == again.history
    assert History.from_csv(tmp_path / "run-1.csv") == history
    clock(hook=CSVLogger(path)).to_dusk()
    assert History.from_csv(tmp_path / "run-2.csv") == again.history
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run-1.csv", "run-2.csv", "run.csv"]
    path.write_text("precious\n")
    with pytest.raises(SettingError, match=r"run.csv exists and is not a daynight log. Name another file"):
        clock(hook=CSVLogger(path)).resume()
    assert path.read_text() == "precious\n"


@pytest.mark.parametrize("path", [None, "", 3, "."])
def test_a_path_that_is_none_is_refused(path):
    with pytest.raises(SettingError, match="path must be the path of a file"):
        CSVLogger(path)
    if not isinstance(path, str):
        with pytest.raises(SettingError, match="folder must be a path"):
            TensorBoardLogger(path)


def test_tensorboard_hides_an_earlier_run(tmp_path):
    for n_days in (2, 1):
        logger = TensorBoardLogger(tmp_path / "board")
        run = clock(hook=logger)
        history = run.run(until=n_days)
        logger.close()
        found, wanted = shown(tmp_path / "board"), expected(history)
        for name, points in wanted.items():
            assert sorted(found[name]) == sorted(points), name


def test_tensorboard_in_no_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        clock(hook=TensorBoardLogger(tmp_path / "file")).resume()


def test_a_progress_event_is_not_logged(tmp_path):
    CSVLogger(tmp_path / "run.csv")(Progress(day=0, phase="wake"))
    assert not (tmp_path / "run.csv").exists()


def test_tensorboard_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'daynight\[tensorboard\]'"):
        TensorBoardLogger(tmp_path)
