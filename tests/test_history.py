import copy
import csv
import json

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daynight import Agent, Capacity, Clock, Epochs, History, Record, Seconds, Training, UniformCycles, plots
from daynight.errors import DataError, DataNotFoundError, OutputError, SettingError
from daynight.testing import FakeTimer, toy_network, toy_stream


@pytest.fixture
def history():
    return History([
        Record(kind="epoch", day=0, phase="wake", step=3, loss=1 / 3, elapsed_seconds=0.5),
        Record(kind="prune", day=0, phase="nrem", step=3, cycle=0, density=0.25, owned=5, free=15),
        Record(kind="evaluation", day=0, phase="dawn", step=6, task=0, loss=0.1, score=0.9),
        Record(kind="day", day=0, phase="dawn", step=6, owned=5, free=15, private=3),
        Record(kind="evaluation", day=1, phase="dawn", step=9, task=0, loss=0.1, score=0.9),
        Record(kind="evaluation", day=1, phase="dawn", step=9, task=1, loss=0.2, score=0.8),
        Record(kind="evaluation", day=1, phase="dusk", step=9, task=1, loss=0.2, score=0.7),
    ])  # fmt: skip


def test_accuracy_is_a_table_of_day_by_task(history):
    assert np.array_equal(history.accuracy, [[0.9, np.nan], [0.9, 0.8]], equal_nan=True)
    assert np.isnan(history.scores("dusk")[0]).all()
    assert History().accuracy.shape == (0, 0)
    with pytest.raises(SettingError, match="phase must be one of 'dusk', 'dawn', not 'noon'"):
        history.scores("noon")


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(["epoch", "dusk", "dawn", "carry", "forget", "len"])), max_size=30
    )
)
def test_a_history_knows_its_length_whatever_is_added(events):
    history = History()
    for step, (day, what) in enumerate(events):
        if what == "epoch":
            history.append(Record(kind="epoch", day=day, phase="wake", step=step))
        elif what in ("dusk", "dawn"):
            history.append(Record(kind="evaluation", day=day, phase=what, step=step, task=day, score=0.5))
        elif what == "carry":
            history.carry(day, "dusk", 10**6, [task for task in history.tested_at_their_dawn if task < day])
        elif what == "forget":
            history.forget_day(day)
        assert what == "carry" or len(history) == len(list(history))
    assert len(history) == len(list(history))


def test_select_takes_any_fields(history):
    assert [record.step for record in history.select(kind="evaluation", task=0)] == [6, 9]
    assert history.select(kind="nothing") == ()
    with pytest.raises(
        SettingError, match=r"(?m)^select: a record has no field 'foo', only kind, day, phase, step, .*\.$"
    ):
        history.select(kind="epoch", foo=1)


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_files_give_back_what_was_written(history, tmp_path, kind):
    path = tmp_path / f"history.{kind}"
    getattr(history, f"to_{kind}")(path)
    again = getattr(History, f"from_{kind}")(path)
    assert again == history
    assert again.records[0].loss == 1 / 3
    assert isinstance(again.records[0].step, int)


def test_csv_has_a_column_for_each_field_and_json_only_what_there_is(history, tmp_path):
    history.to_csv(tmp_path / "h.csv")
    with (tmp_path / "h.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0][:4] == ["kind", "day", "phase", "step"]
    assert rows[2][:5] == ["prune", "0", "nrem", "3", "0"]
    history.to_json(tmp_path / "h.json")
    first = json.loads((tmp_path / "h.json").read_text())["records"][0]
    assert first == {"kind": "epoch", "day": 0, "phase": "wake", "step": 3, "loss": 1 / 3, "elapsed_seconds": 0.5}


def test_frame_has_a_row_for_each_record(history):
    pandas = pytest.importorskip("pandas")
    frame = history.to_frame()
    assert frame.shape == (7, len(frame.columns))
    assert frame.query("kind == 'prune'").owned.tolist() == [5]
    assert isinstance(frame, pandas.DataFrame)


def _with(**fields):
    return json.dumps({"records": [{"kind": "evaluation", "day": 0, "phase": "dawn", "step": 0, "task": 0} | fields]})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"records": ' + "[" * 100_000 + "]" * 100_000 + "}",
        _with(day=10**9),  # a table of scores would have 10^18 values
        _with(task=10_000),
        _with(day=-1),
        _with(step=10**30),
        _with(step=2.5),
        _with(step=True),
        _with(owned=[3]),
        _with(score={}),
    ],
)
def test_history_with_a_value_that_does_not_fit_is_refused(tmp_path, text):
    (tmp_path / "h.json").write_text(text)
    with pytest.raises(
        DataError, match=r"h\.json is not a history: .*\. Name a whole file that to_csv or to_json wrote"
    ):
        History.from_json(tmp_path / "h.json")


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": []}', '{"records": [{"kind": "epoch"}]}', '{"records": 3}'])
def test_file_that_is_no_history_is_refused(tmp_path, text):
    (tmp_path / "h.json").write_text(text)
    with pytest.raises(
        DataError, match=r"h\.json is not a history: .*\. Name a whole file that to_csv or to_json wrote"
    ):
        History.from_json(tmp_path / "h.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its first line does not name the columns kind, day, phase, step"),
        (b"\n", "its first line does not name the columns"),
        (b"kind,colour\nepoch,red\n", "its first line does not name the columns"),
        (b"kind,day,phase,step,colour\nepoch,0,wake,1,3\n", "unexpected keyword argument 'colour'"),
        (b"kind,day,phase,step\nepoch,0,wake\n", "one of its lines is incomplete"),
        (b"kind,day,phase,step\nepoch,0,wake,1", "one of its lines is incomplete"),
        (b"kind,day,phase,step\nepoch,0,wake,\n", "a record has no step"),
        (b"kind,day,phase,step\nepoch,0,wake,one\n", "invalid literal for int"),
        (b"kind,day,phase,step\nnap,0,wake,1\n", "'nap' is not a kind"),
        (b"kind,day,phase,step\nepoch,0,noon,1\n", "'noon' is not a phase"),
        (b"\x89PNG\r\n\x1a\n\x00", "can't decode byte 0x89"),
    ],
)
def test_csv_that_is_no_history_is_refused(tmp_path, content, reason):
    (tmp_path / "h.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"h\.csv is not a history: .*{reason}.* Name a whole file that to_csv or"):
        History.from_csv(tmp_path / "h.csv")


def test_csv_cut_anywhere_but_between_lines_is_refused(history, tmp_path):
    path = tmp_path / "h.csv"
    history.to_csv(path)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        if whole[:end].endswith(b"\n"):
            assert len(History.from_csv(path)) < len(history)
        else:
            with pytest.raises(DataError, match=r"h\.csv is not a history"):
                History.from_csv(path)


@pytest.mark.parametrize("read", [History.from_csv, History.from_json])
def test_history_that_is_missing_or_a_folder_is_refused(tmp_path, read):
    with pytest.raises(
        DataNotFoundError, match=r"there is no history .*h\.dat\. Name a file that to_csv or to_json wrote"
    ):
        read(tmp_path / "h.dat")
    with pytest.raises(DataError, match=r"is not a history: .*Is a directory"):
        read(tmp_path)


def test_history_without_records_comes_back_empty(tmp_path):
    History().to_csv(tmp_path / "h.csv")
    assert len(History.from_csv(tmp_path / "h.csv")) == 0


def test_folder_that_cannot_be_written_is_refused(history, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        history.to_csv(tmp_path / "file" / "h.csv")


def test_history_cannot_be_changed_from_outside(history):
    assert isinstance(history.records, tuple)
    assert len(history) == 7
    assert history != History()
    assert (history == 3) is False


def test_seconds_of_timed_nights_are_read_as_they_were_written(tmp_path):
    record = Record(kind="day", day=0, phase="dawn", step=3, night_seconds=1.25, budget_seconds=1.5,
                    longest_step_seconds=0.001, longest_prune_seconds=0.01, elapsed_seconds=2.75)  # fmt: skip
    history = History([record])
    history.to_csv(tmp_path / "h.csv")
    history.to_json(tmp_path / "h.json")
    assert History.from_csv(tmp_path / "h.csv").records == (record,)
    assert History.from_json(tmp_path / "h.json").records == (record,)


def test_a_record_that_is_there_twice_counts_once():
    records = [Record(kind="day", day=day, phase="dawn", step=day) for day in range(2)]
    history = History([*records, *records[1:]])
    assert history.records == tuple(records)
    assert history.n_days == 2


def made(days, seed=0):
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3), training=Training(batch_size=10), seed=seed)
    return Clock(agent, toy_stream(3), policy=UniformCycles(3), wake=Epochs(2), night=Epochs(3)).run(until=days)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 9, 12])
def test_a_day_that_was_lived_twice_counts_as_it_was_lived_last(n):
    whole, other = made(2), made(2, seed=1)
    begun = [record for record in other if record.day == 1][:n]  # a night that was abandoned, or not kept
    first, second = ([record for record in whole if record.day == day] for day in (0, 1))
    assert History([*first, *begun, *second]) == whole
    assert History([*first, *other.select(day=1), *begun, *second]) == whole
    assert History([*second, *first]) == whole  # days are sorted
    assert History([*whole, *first]) == whole
    assert History(whole) == whole


def test_nights_in_time_and_with_errors_are_taken_as_they_were():
    def fails(event):
        if isinstance(event, Record) and event.phase == "rem" and event.cycle == 1 and not failed:
            failed.append(event)
            raise ZeroDivisionError

    failed = []
    agent = Agent(toy_network, capacity=Capacity(free_at_end=0.5, days=3), training=Training(batch_size=10))
    night = Seconds(1, timer=FakeTimer(0.03, 0.05))
    clock = Clock(agent, toy_stream(3), policy=UniformCycles(3), wake=Epochs(2), night=night, on_event=fails)
    with pytest.raises(ZeroDivisionError):
        clock.run()
    history = clock.run()
    assert failed
    assert [record.cycle for record in history.select(kind="prune", day=0)][:3] == [0, 1, 1]
    assert History(history) == history


def test_capacity_is_drawn_of_days_that_were_joined_in_any_order():
    whole = made(3)
    shown = [
        [patch.get_bbox().bounds for patch in plots.capacity(history).patches]
        for history in (whole, History(sorted(whole, key=lambda record: -record.day)))
    ]
    assert shown[0] == shown[1]


@pytest.fixture(scope="module")
def carried():
    """Return the history of a life in which scores were carried over."""
    agent = Agent(toy_network, capacity=Capacity(keep_per_night=0.15), training=Training(batch_size=20))
    return Clock(agent, toy_stream(4), policy=UniformCycles(1), wake=Epochs(1), night=Epochs(1)).run()


def test_scores_that_were_carried_over_are_records_like_others(carried, tmp_path):
    assert len(carried) == len(list(carried)) == len(carried.to_rows())
    assert carried.last == carried.records[-1]
    records = carried.select(kind="evaluation", day=3, phase="dawn")
    assert [record.task for record in records] == [0, 1, 2, 3]
    assert [record.elapsed_seconds is None for record in records] == [True, True, True, False]
    for record in records[:3]:
        own = carried.select(kind="evaluation", day=record.task, phase="dawn", task=record.task)[0]
        assert (record.loss, record.score, record.step) == (own.loss, own.score, carried.records[-1].step)
    carried.to_csv(tmp_path / "h.csv")
    carried.to_json(tmp_path / "h.json")
    assert History.from_csv(tmp_path / "h.csv") == History.from_json(tmp_path / "h.json") == carried == History(carried)


def test_short_rows_have_one_for_all_scores_that_a_dusk_carries_over(carried):
    short = json.loads(json.dumps(carried.to_rows(is_short=True)))
    assert [row["carried"] for row in short if "carried" in row] == ["0-0"] * 2 + ["0-1"] * 2 + ["0-2"] * 2
    again = History.from_rows(short)
    assert again == carried
    assert again.to_rows(is_short=True) == History(carried).to_rows(is_short=True) == short
    assert History.from_rows(carried.to_rows()) == carried


@pytest.mark.parametrize(
    "changes",
    [
        {"carried": ""}, {"carried": "0"}, {"carried": "0-9"}, {"carried": "1-0"}, {"carried": "0-0 9999999-9999999"},
        {"carried": 3}, {"carried": "0-2 0-2"}, {"carried": "0-1 1-2"}, {"carried": "2-2 0-1"},
        {"carried": "0-" + "9" * 5000}, {"kind": "day"}, {"phase": "before"}, {"day": None}, {"step": "x"},
        {"score": 0.5}, {"day": 0},
    ],
)  # fmt: skip
def test_short_rows_that_are_not_valid_are_refused(carried, changes):
    rows = carried.to_rows(is_short=True)
    place = next(place for place, row in enumerate(rows) if "carried" in row)
    rows[place] = {**rows[place], **changes}
    with pytest.raises((ValueError, TypeError)):
        History.from_rows(rows)
    with pytest.raises(ValueError, match="task 0 has no evaluation"):
        History.from_rows([row for row in carried.to_rows(is_short=True) if row["day"] > 0])


def test_a_day_that_is_forgotten_takes_along_what_was_carried_over_from_it(carried):
    history = History(carried)
    history.forget_day(3)
    assert history.days == (0, 1, 2)
    assert history.records == tuple(record for record in carried if record.day < 3)
    history.forget_day(0)
    assert history.records == tuple(record for record in carried if record.day in (1, 2))
    assert np.isfinite(history.accuracy[2]).all()


def test_rows_that_are_joined_count_once_and_those_of_two_runs_are_refused(carried):
    rows = carried.to_rows(is_short=True)
    assert History.from_rows(rows + rows) == carried
    assert History.from_rows(rows[:40] + rows[20:]) == carried
    assert History.from_rows(carried.to_rows() + rows) == carried
    other = [{**row, "score": 0.25} if row["kind"] == "evaluation" and row.get("task") == 0 else row for row in rows]
    with pytest.raises(ValueError, match="belong to several runs"):
        History.from_rows(rows + other)


def test_records_that_look_as_if_they_were_carried_over_stay_what_they_are(tmp_path):
    common = {"kind": "evaluation", "task": 1, "loss": 0.1, "score": 0.9}
    records = [
        Record(day=1, phase="dawn", step=3, **common), Record(day=1, phase="dawn", step=4, **common),
        Record(day=2, phase="before", step=5, **common), Record(day=2, phase="dusk", step=6, **common),
    ]  # fmt: skip
    history = History(records)
    assert list(history) == list(history.measured()) == records  # two dawns of a task: nothing is known to be carried
    assert History([records[0], *records[2:]]).measured() == (records[0], records[2])
    history.to_json(tmp_path / "h.json")
    assert History.from_json(tmp_path / "h.json") == history


def test_undefined_scores_are_equal():
    records = [Record(kind="evaluation", day=day, phase="dawn", step=day, task=0, score=float("nan")) for day in (0, 1)]
    history = History([*records, attrs.evolve(records[0], score=float("nan"))])
    assert len(history) == 2
    assert history == History(history) == History([*history, *history])
    assert records[0] != attrs.evolve(records[0], score=0.0)


def test_a_copy_is_a_history_of_its_own(carried):
    history = History(carried)
    twin = copy.copy(history)
    history.append(Record(kind="day", day=9, phase="dawn", step=99))
    assert twin == carried
    assert len(twin) == len(carried) == len(history) - 1
    with pytest.raises(ValueError, match="task 9 has no evaluation"):
        history.carry(12, "dusk", 100, [0, 9])
    assert history.days[-1] == 9
