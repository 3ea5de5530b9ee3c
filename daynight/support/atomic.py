"""Files that are written whole or not at all, and folders in which one process works at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from daynight.errors import OutputError, SettingError

#: Errors of a full disk, quota or file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Errors of a file system that does not have an operation: permissions of its own, or syncing a file to disk.
_LACKING = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Provide a temporary path to write to, and move the file to `path` when the block has succeeded.

    The new file is synced to disk and then renamed over the old file, so a reader sees the whole old file or
    the whole new file. If the block raises, the old file stays and the temporary file is deleted. If `path` is a
    symbolic link, the file that it names is replaced, and the link stays.

    Raises:
        OutputError: If `path` is a folder, or its folder cannot be created or written to.
        SettingError: If `path` is not text or a path.
    """
    target = file_named(path)
    try:
        if target.is_symlink():  # the link stays, and its file is replaced
            target = Path(os.path.realpath(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():  # said before anything is written, and "." and "/" have no name to replace
            raise IsADirectoryError
        mode = target.stat().st_mode & 0o777 if target.exists() else None
        temporary = _created(target, mode)
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead to each other
        raise _refused(target, error) from error
    try:
        yield temporary
        _finish(temporary, mode)
        temporary.replace(target)
    except OSError as error:
        raise _refused(target, error, temporary) from error
    finally:
        with contextlib.suppress(OSError):  # the file is written, or another error says why it is not
            temporary.unlink(missing_ok=True)


def file_named(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file, whether or not the file exists.

    Raises:
        SettingError: If `path` is not text or a path, is empty, or has a null character.
    """
    return _named("a file", path)


def folder_named(path: str | os.PathLike[str]) -> Path:
    """Return the path of a folder, whether or not the folder exists.

    Raises:
        SettingError: If `path` is not text or a path.
    """
    return _named("a folder", path)


def check_folder(path: str | os.PathLike[str]) -> Path:
    """Return the folder `path`, after creating it if it does not exist and checking that it can be written to.

    Raises:
        OutputError: If the folder cannot be created or written to.
        SettingError: If `path` is not a path.
    """
    folder = folder_named(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _refused(folder, error) from error
    return folder


def _named(what: str, path: Any) -> Path:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise SettingError(f"{what} must be named by text or a path, not {path!r}.")
    return Path(text)


@contextlib.contextmanager
def _lacking() -> Iterator[None]:
    """Go on after an error of a file system that does not have the operation: nothing better can be done there."""
    try:
        yield
    except OSError as error:
        if error.errno not in _LACKING:
            raise


def _created(target: Path, mode: int | None) -> Path:
    """Make an empty file beside `target`, with the permissions `mode` or, if that is None, those that `open` gives."""
    # The ending stays last, since some writers (NumPy, Matplotlib) read or add it.
    temporary = target.with_name(f".{target.stem}.{os.urandom(4).hex()}{target.suffix}")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    os.close(os.open(temporary, flags, 0o666 if mode is None else mode | stat.S_IRUSR | stat.S_IWUSR))
    return temporary


def _finish(path: Path, mode: int | None) -> None:
    """Give a written file its permissions, and write it from memory to disk, where the file system can do that."""
    if mode is not None:
        with _lacking():
            path.chmod(mode)
    with path.open("rb") as written, _lacking():
        os.fsync(written.fileno())


def _refused(path: Path, error: OSError | RuntimeError, temporary: Path | None = None) -> OutputError:
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, FileExistsError):
        reason = "it is a file, not a folder"
    elif isinstance(error, IsADirectoryError):
        return OutputError(f"cannot write to {path}: it is a folder. Name a file.")
    if temporary is not None:
        reason = reason.replace(str(temporary), str(path)).replace(temporary.name, path.name)
    is_full = getattr(error, "errno", None) in _FULL
    advice = "Make room, or name another folder." if is_full else "Name a folder that you may write to."
    return OutputError(f"cannot write to {path}: {reason}. {advice}")


class Lock:
    """Keeps other processes out of a folder while the lock exists. The system frees the lock when the process ends.

    Args:
        folder: The folder.

    Raises:
        SettingError: If another process works in the folder.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError:  # not available on Windows
            return
        handle = os.open(folder, os.O_RDONLY)
        weakref.finalize(self, os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingError(
                f"another process is at work in {folder}. Wait for it or stop it, or name another folder."
            ) from error
        except OSError:  # some file systems have no locks
            pass


#: The locks of this process, by folder.
_locks: weakref.WeakValueDictionary[Path, Lock] = weakref.WeakValueDictionary()


def of_folder(folder: Path) -> Lock:
    """Return the lock of a folder. Keep the lock as long as this process works in the folder.

    Raises:
        SettingError: If another process works in the folder.
    """
    folder = folder.resolve()
    lock = _locks.get(folder)
    if lock is None:
        lock = _locks[folder] = Lock(folder)
    return lock
