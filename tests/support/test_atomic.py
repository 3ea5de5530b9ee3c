import errno
import os
import pathlib
import stat

import pytest

from daynight.errors import OutputError, SettingError
from daynight.support import atomic


def test_whole_replaces_the_old_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    for text in ("one", "two"):
        with atomic.replacing(target) as temporary:
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
        assert target.read_text() == text
    assert list(target.parent.iterdir()) == [target]


def test_whole_keeps_the_old_file_when_the_block_raises(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write_half():
        with atomic.replacing(target) as temporary:
            temporary.write_text("half of the n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_whole_gives_the_permissions_of_a_plain_open(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic.replacing(tmp_path / "whole") as temporary:
        temporary.write_text("")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "whole")]
    assert modes[0] == modes[1]


def test_folder_that_is_a_file_is_refused_with_advice(tmp_path):
    (tmp_path / "taken").write_text("")
    for call in (lambda: atomic.check_folder(tmp_path / "taken"), atomic.replacing(tmp_path / "taken" / "a").__enter__):
        with pytest.raises(OutputError, match=r"cannot write to .*taken.*: .*\. Name a folder that you may write to\."):
            call()
    with pytest.raises(OSError, match="cannot write"):
        atomic.check_folder(tmp_path / "taken" / "deeper")


def test_check_folder_makes_it_and_leaves_it_empty(tmp_path):
    folder = atomic.check_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert not list(folder.iterdir())


def test_error_names_the_file_and_never_the_temporary_one(tmp_path):
    def refuse(temporary):
        raise OSError(f"no room for {temporary}, that is {temporary.name}")

    target = tmp_path / "a.txt"
    with pytest.raises(OutputError) as caught, atomic.replacing(target) as temporary:
        refuse(temporary)
    assert str(caught.value) == (
        f"cannot write to {target}: no room for {target}, that is a.txt. Name a folder that you may write to."
    )


def test_the_file_that_a_link_names_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "real").mkdir()
    target, link, empty = tmp_path / "real" / "a.txt", tmp_path / "link.txt", tmp_path / "empty.txt"
    target.write_text("old")
    link.symlink_to(target)
    empty.symlink_to(tmp_path / "later" / "b.txt")  # which does not exist yet
    twice = tmp_path / "twice.txt"
    twice.symlink_to(link)
    for path, read, text in ((link, target, "new"), (twice, target, "newer"), (empty, tmp_path / "later/b.txt", "b")):
        with atomic.replacing(path) as temporary:
            temporary.write_text(text)
        assert path.is_symlink()
        assert read.read_text() == text
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize(("where", "name"), [(os, "fsync"), (pathlib.Path, "chmod")])
def test_a_file_system_that_lacks_an_operation_gets_the_file(tmp_path, monkeypatch, where, name, number):
    def lacking(*_arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(where, name, lacking)
    with atomic.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize(("where", "name"), [(os, "fsync"), (pathlib.Path, "chmod"), (pathlib.Path, "replace")])
def test_a_disk_that_fails_keeps_the_old_file(tmp_path, monkeypatch, where, name):
    def fail(*_arguments):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(where, name, fail)
    with pytest.raises(OutputError, match="Input/output error"), atomic.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_temporary_file_that_cannot_be_deleted_does_not_hide_the_outcome(tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(pathlib.Path, "unlink", fail)
    with atomic.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    with pytest.raises(ZeroDivisionError), atomic.replacing(tmp_path / "a.txt"):
        raise ZeroDivisionError
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("path", ["a\0b", "", 3, None, b"a.txt", ["a"]])
def test_a_path_that_names_no_file_is_refused(path):
    with pytest.raises(SettingError, match="must be named by text or a path, not"):
        atomic.replacing(path).__enter__()
    with pytest.raises(SettingError, match="must be named by text or a path, not"):
        atomic.check_folder(path)


def test_a_folder_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "link.txt").symlink_to("folder.txt")
    for path in (".", "..", "./", "/", "folder.txt", "link.txt", "folder.txt/..", tmp_path):
        with pytest.raises(OutputError, match=r"cannot write to .*: it is a folder\. Name a file\."):
            atomic.replacing(path).__enter__()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder.txt", "link.txt"]
