import stat

import pytest

from daynight.errors import OutputError
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
