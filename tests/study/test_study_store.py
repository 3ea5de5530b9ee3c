"""Stores: loose, packed, merged and damaged runs, and the names of those that are committed."""

import functools
import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import KEYS, entry_of, files_in, held_by, laid_out, line_of

from daynight import Epochs, Training, UniformCycles
from daynight.errors import DataError, OutputError, SettingError
from daynight.models import MLP
from daynight.storage.identity import digest
from daynight.study import Store, Study, grid, multinet, runs
from daynight.testing import toy_stream

COMMITTED = Path(__file__).parents[2] / "docs" / "results"
STORES = ["cifar10", "cifar10-small", "mnist", "nights", "permuted", "rotated"]


def counted(stream, *, seed, a):
    return {"value": a + seed / 10}


def test_stores_are_merged_by_copying(tmp_path):
    runs = grid(counted, toy_stream, seeds=range(6), a=1)
    for folder, own in (("here", runs[:2]), ("there", runs[2:4]), ("packed", runs[4:])):
        Study(tmp_path / folder).run(own)
    for path in (tmp_path / "there").glob("*.json"):
        shutil.copy(path, tmp_path / "here")
    assert Store(tmp_path / "packed").pack() == 2
    shutil.copy(tmp_path / "packed" / "runs.jsonl", tmp_path / "here" / "of_another_machine.jsonl")
    found = Study(tmp_path / "here").results(runs)
    assert found.values("value") == {seed: 1 + seed / 10 for seed in range(6)}


def test_a_study_does_not_do_packed_runs_again(tmp_path):
    runs = grid(counted, toy_stream, seeds=range(3), a=1)
    study = Study(tmp_path)
    study.run(runs[:2])
    assert study.store.pack() == 2
    packed = (tmp_path / "runs.jsonl").read_bytes()
    assert len(study.run(runs)) == 3
    assert files_in(tmp_path).keys() == {"runs.jsonl", f"{runs[2].key}.json"}
    assert (tmp_path / "runs.jsonl").read_bytes() == packed


@pytest.mark.parametrize(
    "text",
    ['{"key": "KEY"}', '{"key": "KEY", "run": {}, "result": {}}', '{"key": "KEY", "run": RUN, "result": null}', "[]",
     '{"key": "KEY", "run": RUN, "result": {"value": NaN}}', '{"key": "KEY", "run": OTHER, "result": {"value": 1}}'],
)  # fmt: skip
def test_entries_of_a_wrong_form_are_named(tmp_path, text):
    run, other = grid(counted, toy_stream, seeds=[0, 1], a=1)
    for name, value in (("KEY", run.key), ("RUN", json.dumps(run.about)), ("OTHER", json.dumps(other.about))):
        text = text.replace(name, value)
    (tmp_path / f"{run.key}.json").write_text(text)
    with pytest.raises(
        DataError, match=rf"{run.key}.json is not the entry of a run: .* Delete it, and the run is done"
    ):
        Study(tmp_path).run([run])


def test_a_store_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    laid = grid(counted, toy_stream, seeds=[0], a=1)
    for study in (Study(tmp_path / "file"), Study(tmp_path / "store", states=tmp_path / "file" / "states")):
        with pytest.raises(OutputError, match="cannot write to"):
            study.run(laid)
    assert not len(Store(tmp_path / "store"))
    with pytest.raises(SettingError, match="a folder must be named by text or a path, not None"):
        Study(None)


def test_damaged_and_half_written_entries(tmp_path):
    runs = grid(counted, toy_stream, seeds=range(2), a=1)
    study = Study(tmp_path)
    study.run(runs)
    (tmp_path / f".{runs[0].key}.abc.json").write_text('{"key": ')
    (tmp_path / ".runs.abc.jsonl").write_text('{"key": ')
    assert len(study.store) == len(study.run(runs)) == 2
    (tmp_path / f"{runs[0].key}.json").write_text('{"key": ')
    with pytest.raises(DataError, match=r"is not the entry of a run: .* Delete it, and the run is done again"):
        study.run(runs)


several = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=6)


@given(loose=several, a=several, runs=several, z=several)
def test_runs_in_any_form_are_read_packed_and_unpacked_to_the_same(tmp_path_factory, loose, a, runs, z):
    folder = tmp_path_factory.mktemp("store")
    store = laid_out(folder, loose=loose, a=a, runs=runs, z=z)
    expected = dict(a) | dict(runs) | dict(z) | dict(loose)  # the last counts, and a loose one before all
    entries = sorted(itertools.starmap(entry_of, expected.items()), key=lambda entry: entry["key"])
    lines = "".join(map(line_of, entries)).encode()

    def check(found):
        assert list(found) == entries
        assert len(found) == len(expected)
        assert [key in found for key in KEYS] == [seed in expected for seed in range(8)]
        assert [found.read(KEYS[seed])["result"]["value"] for seed in expected] == list(expected.values())

    packed = {"runs.jsonl": lines} if expected else {"a.jsonl": b"", "runs.jsonl": b"", "z.jsonl": b""}
    unpacked = {f"{entry['key']}.json": line_of(entry).encode() for entry in entries}
    check(store)
    for do, content in ((store.pack, packed), (store.pack, packed), (store.unpack, unpacked), (store.unpack, unpacked),
                        (store.pack, packed if expected else unpacked)):  # fmt: skip
        assert do() == len(expected)
        assert files_in(folder) == content
        check(store)
        check(Store(folder))


@given(parts=st.lists(several, min_size=1, max_size=4))
def test_packed_files_are_merged_by_concatenating(tmp_path_factory, parts):
    folder, stores = tmp_path_factory.mktemp("whole"), []
    for index, part in enumerate(parts):
        stores.append(laid_out(tmp_path_factory.mktemp(str(index)), loose=part))
        stores[-1].pack()
    joined = b"".join(store.packed.read_bytes() for store in stores if store.packed.exists())
    (folder / "joined.jsonl").write_bytes(joined)
    expected = functools.reduce(dict.__or__, map(dict, parts))
    assert held_by(folder) == expected
    assert Store(folder).pack() == len(expected)
    assert held_by(folder) == expected


def test_entries_by_other_hands_are_packed_into_a_line_each(tmp_path):
    store = laid_out(tmp_path, loose=[(0, 1)])
    (tmp_path / f"{KEYS[1]}.json").write_text(json.dumps(entry_of(1, 0.1), indent=2))
    reordered = json.dumps(dict(reversed(entry_of(2, 3).items())))
    (tmp_path / "other.jsonl").write_text(f"\n  {reordered}\r\n \r\n{line_of(entry_of(3, 4))[:-1]}")  # no end of line
    assert store.pack() == 4
    lines = [line_of(entry_of(0, 1)), line_of(entry_of(1, 0.1)), f"{reordered}\n", line_of(entry_of(3, 4))]
    assert store.packed.read_text() == "".join(line for _, line in sorted(zip(KEYS, lines, strict=False)))
    assert held_by(tmp_path) == {0: 1, 1: 0.1, 2: 3, 3: 4}


def wrong_json(text):
    with pytest.raises(json.JSONDecodeError) as caught:
        json.loads(text)
    return str(caught.value).replace(": line 1 column", ", column")


CUT = line_of(entry_of(4))[:80]
GLUED = CUT + line_of(entry_of(5))[:-1]
OTHER = {**entry_of(4), "key": KEYS[6]}
DAMAGED = {  # what, with the key by which it is found, and what is wrong with it
    "cut": (CUT, KEYS[4], wrong_json(CUT)),
    "cut in its key": (CUT[:15], None, wrong_json(CUT[:15])),
    "glued": (GLUED, KEYS[4], wrong_json(GLUED)),
    "no JSON": ("\0\0\0", None, wrong_json("\0\0\0")),
    "a list": ("[]", None, "it has no result"),
    "a number": (line_of(entry_of(4, float("nan")))[:-1], KEYS[4], "NaN is no result"),
    "of another run": (line_of(OTHER)[:-1], KEYS[6], f"it is the entry of another run, {KEYS[4]}"),
    "a path as key": (line_of({**OTHER, "key": "../x"})[:-1], None, f"it is the entry of another run, {KEYS[4]}"),
}


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_line_is_named_and_leaves_other_runs_readable(tmp_path, what, is_last):
    text, key, reason = DAMAGED[what]
    store = laid_out(tmp_path, loose=[(0, 1)], runs=[(1, 2), (2, 3)])
    lines = store.packed.read_text().splitlines(keepends=True)
    store.packed.write_text("".join([*lines, text] if is_last else [f"{text}\n", *lines]))
    assert [store.read(KEYS[seed])["result"]["value"] for seed in range(3)] == [1, 2, 3]
    assert len(store) == 3 + (key is not None)
    assert [own in store for own in KEYS] == [seed < 3 or own == key for seed, own in enumerate(KEYS)]
    before = files_in(tmp_path)
    calls = [lambda: list(store), store.pack, store.unpack, *([] if key is None else [lambda: store.read(key)])]
    for call in calls:
        with pytest.raises(DataError) as caught:
            call()
        assert str(caught.value) == (
            f"{store.packed}, line {3 if is_last else 1}, is not the entry of a run: {reason}. Delete that line, and "
            "the run is done again."
        )
        assert caught.value.page == "studies"
    assert files_in(tmp_path) == before


def test_a_damaged_line_is_named_even_where_another_entry_counts(tmp_path):
    for folder, later in (("loose", {"loose": [(4, 1)]}), ("packed", {"z": [(4, 1)]})):
        store = laid_out(tmp_path / folder, **later)
        (tmp_path / folder / "runs.jsonl").write_text(f"{GLUED}\n")  # in which a run is hidden that is nowhere else
        assert store.read(KEYS[4])["result"]["value"] == 1
        assert KEYS[5] not in store
        with pytest.raises(DataError, match=r"runs\.jsonl, line 1, is not the entry of a run: Expecting"):
            list(store)


def test_a_damaged_loose_file_changes_nothing(tmp_path):
    store = laid_out(tmp_path, loose=[(0, 1), (1, 2)], runs=[(0, 3), (2, 4)])
    path = tmp_path / f"{KEYS[0]}.json"
    path.write_text(CUT)
    before = files_in(tmp_path)
    for do in (store.pack, store.unpack):
        with pytest.raises(DataError) as caught:
            do()
        reason = wrong_json(CUT).replace(", column", ": line 1 column")
        assert str(caught.value) == (
            f"{path} is not the entry of a run: {reason}. Delete it, and the run is done again."
        )
    assert files_in(tmp_path) == before


def test_runs_that_are_not_there_and_files_that_cannot_be_read(tmp_path):
    store = Store(tmp_path / "nowhere")
    assert (list(store), len(store), KEYS[0] in store, store.pack(), store.unpack()) == ([], 0, False, 0, 0)
    assert not store.folder.exists()
    with pytest.raises(DataError) as caught:
        store.read(KEYS[0])
    assert str(caught.value) == f"there is no run {KEYS[0]} in {store.folder}. Do the run, or copy its entry there."
    (tmp_path / f"{KEYS[0]}.json").mkdir()
    with pytest.raises(DataError) as caught:
        Store(tmp_path).read(KEYS[0])
    assert str(caught.value) == (
        f"{tmp_path / KEYS[0]}.json cannot be read: Is a directory. Allow it to be read, or move it out of the store."
    )


def test_a_packed_file_is_read_again_only_when_it_has_changed(tmp_path, monkeypatch):
    store, reads = laid_out(tmp_path, runs=[(0, 1), (1, 2)]), []
    fstat = os.fstat
    monkeypatch.setattr(os, "fstat", lambda handle: reads.append(handle) or fstat(handle))
    for _ in range(3):
        assert [key in store for key in KEYS[:3]] == [True, True, False]
        assert store.read(KEYS[1])["result"]["value"] == 2
    assert len(reads) == 1
    laid_out(tmp_path, runs=[(0, 1), (1, 10)])
    assert store.read(KEYS[1])["result"]["value"] == 10
    assert len(reads) == 2


@pytest.mark.parametrize("second", [1, 2**32])
def test_a_packed_file_that_is_added_is_found(tmp_path, second):
    store = laid_out(tmp_path, runs=[(0, 1)])
    os.utime(tmp_path, (second, second))
    assert KEYS[1] not in store
    laid_out(tmp_path, z=[(1, 2)])
    if second > 1:
        os.utime(tmp_path, (second, second))  # added within the time that the file system resolves
    assert KEYS[1] in store


@pytest.mark.parametrize("name", STORES)
def test_committed_runs_are_packed_and_whole(name):
    store = Store(COMMITTED / "study" / name)
    entries = list(store)
    assert len(entries) == len(store) > 0
    assert {entry["run"]["version"] for entry in entries} == {runs.RESULTS_FORMAT}
    assert [path.name for path in store.folder.iterdir()] == ["runs.jsonl"]


def test_committed_results_are_few_files():
    assert sorted(path.name for path in (COMMITTED / "study").iterdir() if path.is_dir()) == STORES
    assert sum(path.is_file() for path in COMMITTED.rglob("*")) < 60


def test_a_committed_run_has_the_name_that_its_settings_have_today(monkeypatch):
    monkeypatch.setattr("daynight._version.__version__", "9.9", raising=False)
    settings = {"network": functools.partial(MLP, 784, 256, 256), "training": Training(), "wake": Epochs(72), "seed": 3,
                "night": Epochs(72), "policy": UniformCycles(1), "free_at_end": 0.973}  # fmt: skip
    key = digest(runs.about(multinet, "a2283aedb0b8f7a271b4", [], settings))
    assert Store(COMMITTED / "study" / "mnist").read(key)["result"]["n_steps"] == 67536


def test_a_file_of_something_else_is_not_to_be_deleted(tmp_path):
    (tmp_path / "history.json").write_text('{"records": []}')
    with pytest.raises(DataError, match=r"it has no result\. It does not have the name of a run: move it elsewhere"):
        Store(tmp_path).pack()
    assert (tmp_path / "history.json").exists()
