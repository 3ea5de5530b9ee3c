"""Nothing is lost while a store is packed or unpacked, whatever happens meanwhile; the command that does it."""

import fcntl
import itertools
import json
import os
from pathlib import Path

import pytest
from stored import KEYS, entry_of, files_in, held_by, laid_out, line_of, values_in

from daynight.cli.main import main
from daynight.errors import OutputError, SettingError
from daynight.study import Store


class Killed(BaseException):
    """The end of a process."""


def killed_after(n_steps, patch, before_each=lambda: None):
    """Let no file be written, renamed or deleted after so many such steps, the last of which is half done."""
    steps = itertools.count()

    def until_killed(function, path, *arguments, **keywords):
        before_each()
        if (step := next(steps)) >= n_steps:
            if step == n_steps and function.__name__ == "write_bytes":
                function(path, arguments[0][:100])
            raise Killed
        return function(path, *arguments, **keywords)

    for name in ("write_bytes", "replace", "unlink"):
        function = getattr(Path, name)
        patch.setattr(Path, name, lambda *args, function=function, **kwargs: until_killed(function, *args, **kwargs))


@pytest.mark.parametrize("what", ["pack", "unpack"])
def test_nothing_is_lost_when_packing_is_killed_at_any_step(tmp_path, monkeypatch, what):
    expected, seen = {0: 1, 1: 2, 2: 3, 3: 4}, []
    for n_steps in itertools.count():
        folder = tmp_path / str(n_steps)
        store = laid_out(folder, loose=[(0, 1), (1, 2)], runs=[(1, 5), (2, 3)], z=[(3, 4)])
        reader = Store(folder)
        with monkeypatch.context() as patch:
            killed_after(n_steps, patch, lambda reader=reader: seen.append(values_in(reader)))
            try:
                getattr(store, what)()
            except Killed:
                assert held_by(folder) == expected
            else:
                break
        assert getattr(Store(folder), what)() == 4
        assert held_by(folder) == expected
    assert n_steps > 4
    assert seen == [expected] * len(seen)


def once_before(patch, owner, name, action, n_calls=0):
    """Do something once a function is called, and has been called so often before."""
    function, actions = getattr(owner, name), iter([*[lambda: None] * n_calls, action])

    def acting(*arguments, **keywords):
        next(actions, lambda: None)()
        return function(*arguments, **keywords)

    patch.setattr(owner, name, acting)


def test_runs_that_are_written_while_a_store_is_packed_stay_loose(tmp_path, monkeypatch):
    store = laid_out(tmp_path, loose=[(0, 1), (1, 2)])
    once_before(monkeypatch, Path, "write_bytes", lambda: laid_out(tmp_path, loose=[(1, 7), (2, 3)]))
    assert store.pack() == 2
    assert files_in(tmp_path).keys() == {"runs.jsonl", f"{KEYS[1]}.json", f"{KEYS[2]}.json"}
    assert held_by(tmp_path) == values_in(store) == {0: 1, 1: 7, 2: 3}


@pytest.mark.parametrize("was_there", [False, True])
def test_a_packed_file_that_is_added_to_while_it_is_packed_is_not_replaced(tmp_path, monkeypatch, was_there):
    store = laid_out(tmp_path, loose=[(0, 1)], **({"runs": [(1, 2)]} if was_there else {}))

    def add():
        with store.packed.open("a") as lines:
            lines.write(line_of(entry_of(2, 3)))

    once_before(monkeypatch, Path, "write_bytes", add)
    with pytest.raises(SettingError) as caught:
        store.pack()
    assert str(caught.value) == f"{store.packed} has just changed. Pack it when nothing else writes there."
    assert held_by(tmp_path) == {0: 1, 2: 3} | ({1: 2} if was_there else {})
    assert store.pack() == 2 + was_there


def test_a_packed_file_that_is_added_to_while_it_is_unpacked_stays(tmp_path, monkeypatch):
    store = laid_out(tmp_path, runs=[(1, 2)])
    once_before(monkeypatch, Path, "write_bytes", lambda: laid_out(tmp_path, runs=[(1, 2), (2, 3)]))
    assert store.unpack() == 1
    assert held_by(tmp_path) == {1: 2, 2: 3}


def test_unpacking_leaves_loose_files_alone(tmp_path):
    store = laid_out(tmp_path, loose=[(0, 1)], runs=[(0, 2), (1, 3)])
    path = tmp_path / f"{KEYS[0]}.json"
    path.write_text(json.dumps(entry_of(0, 1), indent=2))
    before = path.read_text()
    assert store.unpack() == 2
    assert path.read_text() == before
    assert held_by(tmp_path) == {0: 1, 1: 3}


@pytest.mark.parametrize(
    "step", [(Store, "_line", 0), (Store, "_packed_files", 0), *((os, "scandir", n) for n in range(4))]
)
@pytest.mark.parametrize("what", ["pack", "unpack"])
def test_a_reader_finds_runs_that_are_moved_while_it_looks_for_them(tmp_path, monkeypatch, what, step):
    expected = {0: 1, 1: 2}
    looks = [values_in, len, lambda store: KEYS[0] in store, lambda store: store.read(KEYS[0])["result"]["value"]]
    for index, (look, found) in enumerate(zip(looks, (expected, 2, True, 1), strict=True)):
        folder = tmp_path / str(index)
        packed = {"a": [(0, 1)], "runs": [(1, 2)]}
        reader = laid_out(folder, **({"loose": [*expected.items()]} if what == "pack" else packed))
        with monkeypatch.context() as patch:
            once_before(patch, *step[:2], getattr(Store(folder), what), step[2])
            assert look(reader) == found
            assert look(reader) == found
        entries = iter(reader)
        first = next(entries)
        getattr(Store(folder), "unpack" if what == "pack" else "pack")()
        assert values_in([first, *entries]) == expected


def test_a_packed_file_that_goes_while_a_reader_comes_to_it_is_looked_for_anew(tmp_path, monkeypatch):
    reader = laid_out(tmp_path, a=[(0, 1)], b=[(1, 2)])
    once_before(monkeypatch, os, "fstat", Store(tmp_path).pack)  # when the first of two files is open already
    assert KEYS[1] in reader
    assert values_in(reader) == {0: 1, 1: 2}


def test_two_processes_do_not_pack_at_the_same_time(tmp_path):
    store = laid_out(tmp_path, loose=[(0, 1)])
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    for do in (store.pack, store.unpack):
        with pytest.raises(SettingError) as caught:
            do()
        assert str(caught.value) == (
            f"another process is at work in {tmp_path}. Wait for it or stop it, or name another folder."
        )
    os.close(handle)
    assert store.pack() == 1


def test_a_file_that_cannot_be_deleted_is_named(tmp_path, monkeypatch):
    store = laid_out(tmp_path, loose=[(0, 1)])
    unlink = Path.unlink

    def refused(path, **keywords):
        if path.suffix == ".json":
            raise PermissionError(13, "Permission denied")
        unlink(path, **keywords)

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(OutputError) as caught:
        store.pack()
    assert str(caught.value) == (
        f"cannot delete {tmp_path / KEYS[0]}.json: Permission denied. Delete it yourself: its runs are in other files "
        "of the store, too."
    )
    assert held_by(tmp_path) == {0: 1}


def test_the_command_packs_and_unpacks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    laid_out(Path("one"), loose=[(0, 1), (1, 2)])
    laid_out(Path("two"), loose=[(2, 3)])
    before = files_in(Path("one"))
    n_bytes = [sum(len(line_of(entry_of(seed, seed + 1))) for seed in seeds) for seeds in ([0, 1], [2])]
    assert main(["study", "pack", "one", "two/"]) == 0
    assert capsys.readouterr().out == (
        f"one: 2 runs, {n_bytes[0]} bytes in one/runs.jsonl\ntwo/: 1 runs, {n_bytes[1]} bytes in two/runs.jsonl\n"
    )
    assert files_in(Path("one")).keys() == files_in(Path("two")).keys() == {"runs.jsonl"}
    assert main(["study", "unpack", "one"]) == 0
    assert capsys.readouterr().out == "one: 2 runs, a file each\n"
    assert files_in(Path("one")) == before


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for what in ("pack", "unpack"):
        assert main(["study", what, "nowhere"]) == 1
        assert capsys.readouterr().err == (
            "error: there are no runs in nowhere. Name the folder of a study's store.\nMore: docs/studies.rst of "
            "daynight.\n"
        )
        with pytest.raises(SystemExit) as caught:
            main(["study", what])
        assert caught.value.code == 2
        assert capsys.readouterr().err.startswith(f"usage: daynight study {what} [-h] FOLDER [FOLDER ...]\n")
