"""The log of nights has each night once, however often its job is killed."""

import csv
import datetime
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from resumable import Killed, Killer, clock

from daynight import Agent, Capacity, Clock, Gate, OneShot, Steps, Task, Training
from daynight.errors import DataError, DataNotFoundError, OutputError, SettingError, StateError
from daynight.loggers import log_failure, log_night
from daynight.loggers.night_log import NIGHT_COLUMNS
from daynight.testing import toy_network


def fast(parameters):
    return torch.optim.Adam(parameters, lr=0.02)


TRAINING = Training(batch_size=40, optimizer=fast)
#: What differs from run to run; files hold seconds, whose numbers of digits differ.
OF_A_RUN = ("date", "time", "seconds", "file_bytes")


def lines(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in OF_A_RUN} for row in rows]


def task_of(day):
    drawn = torch.Generator().manual_seed(100 + day)
    inputs = torch.randn(440, 6, generator=drawn)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    given = torch.randint(2, labels.shape, generator=drawn) if day == 2 else labels  # a night to be refused
    train, test = (inputs[:400], given[:400]), (inputs[400:], labels[400:])
    return Task(train=train, test=test, n_outputs=2, name="job", succeeds="job").hold_out(0.25)


def tonight(home, date, now):
    """Do the job of docs/nightly.rst; `now` is called at each moment at which it may be killed."""
    files = sorted(home.glob("*.dn"))
    if files:
        agent = Agent.load(files[-1], toy_network, training=TRAINING)
        if files[-1].stem >= date:
            return agent
    else:
        gate = Gate(tolerance=0.05, least=20)
        agent = Agent(toy_network, capacity=Capacity(keep_per_task=0.3), training=TRAINING, gate=gate)
    run = Clock(
        agent, [task_of(int(date))], first_day=agent.day, policy=OneShot(), wake=Steps(48), night=Steps(48),
        checkpoint=home / date, on_event=now,
    )  # fmt: skip
    run.run()
    new = home / "new"
    for step in (
        lambda: agent.save(new), lambda: log_night(home / "nights.csv", run, new, name=date),
        lambda: new.rename(home / f"{date}.dn"), (home / date / "clock.dn").unlink,
        lambda: shutil.rmtree(home / date),
    ):  # fmt: skip
        now(None)
        step()
    now(None)
    return agent


def test_a_job_that_is_killed_when_its_night_is_over_leaves_one_line_a_night(tmp_path):
    begun, whole, heard = tmp_path / "begun", tmp_path / "whole", []
    begun.mkdir()
    tonight(begun, "0", lambda event: None)
    shutil.copytree(begun, whole)
    tonight(whole, "1", heard.append)
    expected = lines(whole / "nights.csv")
    assert [(row["name"], row["day"], row["verdict"]) for row in expected] == [("0", "0", ""), ("1", "1", "accepted")]
    over = heard.index(None)  # the number of events of the night
    for n in range(over - 1, len(heard)):
        home = shutil.copytree(begun, tmp_path / str(n))
        with pytest.raises(Killed):
            tonight(home, "1", Killer(n))
        tonight(home, "1", lambda event: None)
        assert timeless(lines(home / "nights.csv")) == timeless(expected)
        assert lines(home / "nights.csv")[-1]["file_bytes"] == str((home / "1.dn").stat().st_size)
    assert n - over == 5


def test_a_line_has_the_numbers_of_its_night(tmp_path):
    began = datetime.datetime.now().replace(microsecond=0)
    run = clock(days=2)
    with pytest.raises(StateError, match="no night of the clock is over"):
        log_night(tmp_path / "nights.csv", run)
    while not run.is_over:
        run.step()
        run.agent.save(tmp_path / "agent.dn")
        log_night(tmp_path / "nights.csv", run, tmp_path / "agent.dn")
    assert (tmp_path / "nights.csv").read_text().splitlines()[0].split(",") == list(NIGHT_COLUMNS)
    rows = lines(tmp_path / "nights.csv")
    for index, (row, day) in enumerate(zip(rows, run.history.select(kind="day"), strict=True)):
        found = datetime.datetime.fromisoformat(f"{row['date']}T{row['time']}")
        assert began <= found <= datetime.datetime.now()
        assert (row["day"], row["task"], row["score_before"]) == (str(index), run.stream[index].name, "")
        for phase in ("dusk", "dawn"):
            assert float(row[f"score_{phase}"]) == pytest.approx(run.history.scores(phase)[index, index], rel=1e-5)
        assert (row["name"], row["n_train"]) == ("", str(len(run.stream[index].train)))
        assert (row["wake_steps"], row["night_steps"]) == (str(day.wake_steps), str(day.night_steps))
        assert (row["seconds"], row["free"]) == (f"{day.elapsed_seconds:.6f}", str(day.free))
        assert (row["verdict"], row["reason"]) == ("", "")
    assert rows[-1]["file_bytes"] == str((tmp_path / "agent.dn").stat().st_size)
    assert all(int(row["file_bytes"]) > 0 for row in rows)


def test_a_night_that_succeeds_another_has_a_score_before_and_a_verdict(tmp_path):
    agent = Agent(
        toy_network, capacity=Capacity(keep_per_task=0.3), training=TRAINING, gate=Gate(tolerance=0.05, least=20)
    )
    for day in range(3):
        run = Clock(agent, [task_of(day)], first_day=day, policy=OneShot(), wake=Steps(48), night=Steps(48))
        run.run()
        log_night(tmp_path / "nights.csv", run)
    first, second, third = lines(tmp_path / "nights.csv")
    assert first["score_before"] == ""
    assert 0.0 < float(second["score_before"]) <= 1.0
    assert second["reason"].startswith("the new version is not worse")
    assert (third["verdict"], third["score_dawn"], third["file_bytes"]) == ("refused", "", "")
    assert third["score_dusk"] != ""
    assert third["reason"]


def test_a_night_is_logged_once_and_other_nights_stay(tmp_path):
    path, run = tmp_path / "nights.csv", clock(days=1)
    run.run()
    log_night(path, run)
    text = path.read_text()
    log_night(path, run)
    assert path.read_text() == text
    path.write_text(text.rstrip("\n"))  # as an editor may leave it
    other = clock(days=1)
    other.run()
    log_night(path, other)
    assert path.read_text().startswith(text)
    assert [row["day"] for row in lines(path)] == ["0", "0"]


def test_an_older_log_is_continued_with_the_columns_that_it_lacks(tmp_path):
    path, run = tmp_path / "nights.csv", clock(days=1)
    run.run()
    log_night(path, run, name="today")
    (new,) = lines(path)
    older = [name for name in NIGHT_COLUMNS if name not in ("name", "n_train")]
    path.write_text(",".join(older) + "\n" + ",".join(new[name] for name in older))
    with pytest.raises(KeyError, match="temp"), log_failure(path, "tomorrow"):
        raise KeyError("temp")
    assert path.read_text().splitlines()[0].split(",") == list(NIGHT_COLUMNS)
    first, second = lines(path)
    assert first == {**new, "name": "", "n_train": ""}
    assert (second["name"], second["reason"]) == ("tomorrow", "KeyError: 'temp'")


def test_what_is_no_log_and_what_cannot_be_read_is_said(tmp_path):
    run = clock(days=1)
    run.run()
    (tmp_path / "notes.txt").write_text("precious\n")
    (tmp_path / "agent.dn").write_bytes(b"\xff\xfe")
    for name in ("notes.txt", "agent.dn"):
        with pytest.raises(SettingError, match=rf"{re.escape(name)} exists and is not a log of nights: it has other"):
            log_night(tmp_path / name, run)
    assert (tmp_path / "notes.txt").read_text() == "precious\n"
    with pytest.raises(DataNotFoundError, match=r"there is no file .*new\.dn\. Save the agent before its night"):
        log_night(tmp_path / "nights.csv", run, tmp_path / "new.dn")
    assert not (tmp_path / "nights.csv").exists()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"cannot read .*folder"):
        log_night(tmp_path / "folder", run)
    with pytest.raises(SettingError, match="clock must be a Clock, not"):
        log_night(tmp_path / "nights.csv", SimpleNamespace(history=run.history))


def test_a_night_that_fails_leaves_a_line_and_its_error(tmp_path):
    path, run = tmp_path / "job" / "nights.csv", clock(days=1)
    for _ in range(2):  # the second call of the timer fails in the same way
        with pytest.raises(KeyError, match="temp"), log_failure(path, "2026-11-03"):
            raise KeyError("temp")
    with pytest.raises(DataError, match="hold values that are not finite"), log_failure(path, "2026-11-03"):
        Task(train=(torch.tensor([[1.0], [torch.nan]]), [0, 1]), test=(torch.zeros(2, 1), [0, 1]))
    with log_failure(path, "2026-11-03"):
        run.run()
        log_night(path, run, name="2026-11-03")
    first, second, third = lines(path)
    said = [(row["name"], row["verdict"]) for row in (first, second, third)]
    assert said == [("2026-11-03", "failed"), ("2026-11-03", "failed"), ("2026-11-03", "")]
    assert (first["reason"], third["day"]) == ("KeyError: 'temp'", "0")
    assert second["reason"].startswith("DataError: a task without a name, train split: the inputs hold values that")
    assert {name for name, value in first.items() if value} == {"date", "time", "name", "verdict", "reason"}
    assert path.read_text().splitlines()[0].split(",") == list(NIGHT_COLUMNS)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(143), Killed])
def test_a_job_that_is_stopped_has_not_failed(tmp_path, error):
    with pytest.raises(error if isinstance(error, type) else SystemExit), log_failure(tmp_path / "nights.csv", "1"):
        raise error
    assert not (tmp_path / "nights.csv").exists()


def test_the_reason_of_a_failure_is_one_line_that_every_reader_takes(tmp_path):
    path = tmp_path / "nights.csv"
    for error in (ValueError('one, "two"\nthree'), ValueError("a\0b\udcff"), ValueError()):
        with pytest.raises(ValueError), log_failure(path, 7):  # noqa: PT011
            raise error
    assert [row["reason"] for row in lines(path)] == ['ValueError: one, "two"', "ValueError: a?b?", "ValueError: "]


def test_a_failure_is_not_hidden_by_a_log_that_cannot_be_written(tmp_path):
    (tmp_path / "notes.txt").write_text("precious\n")
    expected = pytest.raises(SettingError, match=r"notes\.txt exists and is not a log of nights")
    with expected, log_failure(tmp_path / "notes.txt", "1"):
        pytest.fail("the night has begun")
    path = tmp_path / "nights.csv"

    def fail():
        with log_failure(path, "1"):
            path.mkdir()
            raise KeyError("temp")

    with pytest.raises(KeyError, match="temp"), pytest.warns(UserWarning, match="night 1 failed, and the log of"):
        fail()
