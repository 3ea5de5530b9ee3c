"""Locks: no two processes at work in one folder."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

from daynight.errors import SettingError


class Lock:
    """Keeps other processes out of a folder, as long as it is there; the system lets go of it when the process ends.

    Args:
        folder: The folder.

    Raises:
        SettingError: If another process is at work there.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError:  # there is none on Windows
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


#: Those of this process, by folder.
_locks: weakref.WeakValueDictionary[Path, Lock] = weakref.WeakValueDictionary()


def of_folder(folder: Path) -> Lock:
    """Give the lock of a folder, to be held as long as this process is at work there.

    Raises:
        SettingError: If another process is.
    """
    folder = folder.resolve()
    lock = _locks.get(folder)
    if lock is None:
        lock = _locks[folder] = Lock(folder)
    return lock
