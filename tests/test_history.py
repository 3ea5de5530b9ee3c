import csv
import json

import numpy as np
import pytest

from daynight import History, Record
from daynight.errors import DataError, OutputError


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


def test_select_takes_any_fields(history):
    assert [record.step for record in history.select(kind="evaluation", task=0)] == [6, 9]
    assert history.select(kind="nothing") == ()


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


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": []}', '{"records": [{"kind": "epoch"}]}', '{"records": 3}'])
def test_file_that_is_no_history_is_refused(tmp_path, text):
    (tmp_path / "h.json").write_text(text)
    with pytest.raises(DataError, match=r"h\.json is not a history"):
        History.from_json(tmp_path / "h.json")
    (tmp_path / "h.csv").write_text("kind,colour\nepoch,red\n")
    with pytest.raises(DataError, match=r"h\.csv is not a history"):
        History.from_csv(tmp_path / "h.csv")


def test_folder_that_cannot_be_written_is_refused(history, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write to"):
        history.to_csv(tmp_path / "file" / "h.csv")


def test_history_cannot_be_changed_from_outside(history):
    assert isinstance(history.records, tuple)
    assert len(history) == 7
    assert history != History()
    assert (history == 3) is False
