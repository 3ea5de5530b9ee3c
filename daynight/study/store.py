"""`Store`: a folder with a JSON entry for each finished run: loose (a file) or packed (a line of a file)."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from daynight.errors import DataError, OutputError, SettingError
from daynight.storage.identity import digest
from daynight.support import atomic, expected

#: The name of the file that `Store.pack` writes.
PACKED = "runs.jsonl"

#: The beginning of an entry that a store has written: names are sorted, and "key" is the first of them.
_HEAD = re.compile(rb'\{"key": "([0-9a-f]{1,64})"')


class Store:
    """Keeps the results of runs: one JSON entry a run, named by the run's key.

    An entry is either loose, a file of its own named by the key, or packed, a line of a ``.jsonl`` file. A new run is
    written as a loose file, whole or not at all. `pack` moves all entries into one file, ``runs.jsonl``. Loose and
    packed entries are read in the same way.

    Stores of several machines are merged by copying their files into one folder; packed files may also be concatenated.
    A run with several entries counts once. If the entries differ, the loose one counts. Without a loose entry, the last
    packed one counts, in the order of file names and lines.

    Args:
        folder: The folder of the files; it is made with the first file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._known: dict[Path, _File] = {}
        self._listed: tuple[int | None, list[Path]] = None, []

    @property
    def packed(self) -> Path:
        """The file that `pack` writes."""
        return self.folder / PACKED

    def __contains__(self, key: str) -> bool:
        path = self._path(key)
        # Twice, because another process may unpack the store in between.
        return path.exists() or self._line(key) is not None or path.exists()

    def __len__(self) -> int:
        """Return the number of different keys. A damaged line counts if its key can be read."""
        return len(self._keys())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Return all entries, sorted by key.

        Raises:
            DataError: If a file or a line is damaged, even if another entry counts in its place.
        """
        keys, packed = self._keys(), self._packed_files()
        counted = {key: text for file in packed for key, text in file.by_key.items()}
        for line in (line for file in packed for line in file.texts):
            if line.key is None or counted[line.key] is not line or self._path(line.key).exists():
                line.entry()  # the loop below does not come to this line
        for key in sorted(keys):
            text = self._loose(key) or counted.get(key)
            yield self.read(key) if text is None else text.entry()

    def read(self, key: str) -> dict[str, Any]:
        """Return the entry of a run.

        Raises:
            DataError: If the run is not in the store, or its own entry is damaged.
        """
        text = self._loose(key) or self._line(key) or self._loose(key)  # twice, as in __contains__
        if text is None:
            message = f"there is no run {key} in {self.folder}. Do the run, or copy its entry there."
            raise DataError(message, page="studies")
        return text.entry()

    def where(self, key: str) -> tuple[Path, int | None]:
        """Return the file that has the entry of a run, and the line in it, from 1; None for a file of its own.

        Raises:
            DataError: If the run is not in the store.
        """
        text = self._loose(key) or self._line(key) or self._loose(key)  # twice, as in __contains__
        if text is None:
            raise DataError(f"there is no run {key} in {self.folder}. Do the run, or copy its entry there.",
                            page="studies")  # fmt: skip
        return text.path, text.number

    def write(self, key: str, entry: dict[str, Any]) -> None:
        """Write an entry as a loose file. It counts in place of a packed entry with the same key.

        Raises:
            OutputError: If the folder cannot be written to.
        """
        with atomic.replacing(self._path(key)) as path:
            path.write_text(json.dumps({"key": key, **entry}, sort_keys=True, allow_nan=False) + "\n")

    def pack(self) -> int:
        """Move all entries into the file `packed`, sorted by key.

        The process can be killed at any moment: the file is written whole or not at all, and the files whose entries it
        has are deleted only afterwards. A run that another process writes meanwhile stays loose.

        Returns:
            Number of runs; if it is 0, no file is written.

        Raises:
            DataError: If a file or a line is damaged. Nothing is changed.
            SettingError: If another process packs or unpacks the store, or changes `packed` meanwhile.
            OutputError: If a file cannot be written or deleted.
        """
        # Only packing and unpacking exclude each other. New runs are written without the lock.
        lock = atomic.of_folder(self.folder) if self.folder.is_dir() else None
        loose, packed = self._loose_files(), self._packed_files()
        counted = _checked(packed + loose)
        if counted:
            with atomic.replacing(self.packed) as path:
                path.write_bytes(b"".join(counted[key].line for key in sorted(counted)))
                if self.packed.exists() != any(file.path == self.packed and file.is_unchanged for file in packed):
                    raise SettingError(f"{self.packed} has just changed. Pack it when nothing else writes there.")
            _delete(file for file in packed + loose if file.path != self.packed)
        del lock
        return len(counted)

    def unpack(self) -> int:
        """Write each packed entry as a loose file, and delete the packed files.

        The process can be killed at any moment: packed files are deleted only when all loose ones are written.

        Returns:
            Number of runs.

        Raises:
            DataError: If a file or a line is damaged. Nothing is changed.
            SettingError: If another process packs or unpacks the store.
            OutputError: If a file cannot be written or deleted.
        """
        lock = atomic.of_folder(self.folder) if self.folder.is_dir() else None
        packed = self._packed_files()
        counted = _checked(packed + self._loose_files())
        for key, text in sorted(counted.items()):
            if text.number is not None:
                with atomic.replacing(self._path(key)) as path:
                    path.write_bytes(text.line)
        _delete(packed)
        del lock
        return len(counted)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _paths(self, ending: str) -> list[Path]:
        """Return the files with an ending, sorted by name, without unfinished files (``.NAME``)."""
        try:
            with os.scandir(self.folder) as found:
                names = sorted(file.name for file in found if file.name.endswith(ending) and file.is_file())
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [self.folder / name for name in names if not name.startswith(".")]

    def _keys(self) -> set[str]:
        # Twice loose, because another process may pack the store after the first look, or unpack it before the last.
        loose = {path.stem for path in self._paths(".json")}
        packed = {key for file in self._packed_files() for key in file.by_key}
        return loose | packed | {path.stem for path in self._paths(".json")}

    def _loose(self, key: str) -> _Text | None:
        file = _read(self._path(key))
        return None if file is None else file.texts[0]

    def _loose_files(self) -> list[_File]:
        return [file for file in map(_read, self._paths(".json")) if file is not None]

    def _line(self, key: str) -> _Text | None:
        """Return the packed entry that counts for a run; None if there is none."""
        return next((file.by_key[key] for file in reversed(self._packed_files()) if key in file.by_key), None)

    def _packed_paths(self) -> list[Path]:
        """Return the paths of packed files. A folder of thousands of loose files is listed only if it has changed."""
        changed = self.folder.stat().st_mtime_ns if self.folder.exists() else 0
        if self._listed[0] != changed:
            # Times of files can be 2 seconds coarse, so a folder that has just changed may change again unseen.
            self._listed = changed if time.time_ns() - changed > 2 * 10**9 else None, self._paths(".jsonl")
        return self._listed[1]

    def _packed_files(self) -> list[_File]:
        """Return the packed files, sorted by name; those that have changed are read again."""
        while True:
            found = {}
            for path in self._packed_paths():
                known = self._known.get(path)
                file = known if known is not None and known.is_unchanged else _read(path)
                if file is None:  # another process has just moved the file's entries
                    self._listed = None, []
                    break
                found[path] = file
            else:
                self._known = found
                return list(found.values())


@attrs.frozen(eq=False, kw_only=True)
class _Text:
    """The JSON of a run, which may be damaged.

    Attributes:
        path: The file that contains the JSON.
        content: The JSON.
        key: The run's key; None if a line is so damaged that its key cannot be read.
        number: Number of the line, from 1; None in a loose file.
    """

    path: Path
    content: bytes
    key: str | None
    number: int | None = None

    @property
    def line(self) -> bytes:
        """The JSON as one line. Only an entry that no store has written can have several lines."""
        content = self.content.strip()
        if b"\n" in content:
            content = json.dumps(json.loads(content), sort_keys=True).encode()
        return content + b"\n"

    def entry(self) -> dict[str, Any]:
        """Return the entry.

        Raises:
            DataError: If the JSON is not the entry of the run that the key names.
        """
        try:
            entry: dict[str, Any] = json.loads(self.content.decode(), parse_constant=_refuse, parse_float=_finite)
            if not isinstance(entry, dict) or not isinstance(entry.get("result"), dict):
                raise ValueError("it has no result")
            run = entry.get("run")
            if not isinstance(run, dict) or not isinstance(run.get("settings"), dict) or "seed" not in run["settings"]:
                raise ValueError("it does not say what was run")
            if not self.key == entry.get("key") == digest(run):
                raise ValueError(f"it is the entry of another run, {digest(run)}")
            _check_result(entry, run.get("method"))
            return entry
        except (ValueError, RecursionError, OverflowError) as error:
            where, it = ("", "it") if self.number is None else (f", line {self.number},", "that line")
            reason = str(error) if self.number is None else str(error).replace(": line 1 column", ", column")
            message = f"{self.path}{where} is not the entry of a run: {reason}. "
            if self.number is None and re.fullmatch("[0-9a-f]{1,64}", self.key or "") is None:
                # Another program's file: to delete it could lose something.
                message += "It does not have the name of a run: move it elsewhere, or name the folder of a store."
            else:
                message += f"Delete {it}, and the run is done again."
            raise DataError(message, page="studies") from error


@attrs.frozen(eq=False, kw_only=True)
class _File:
    """A file that was read.

    Attributes:
        path: The file.
        mark: Differs from the file's current mark if the file has changed.
        texts: The entry of a loose file, or the lines of a packed one.
        by_key: The last of `texts` with each key.
    """

    path: Path
    mark: tuple[int, ...]
    texts: tuple[_Text, ...]
    by_key: Mapping[str, _Text]

    @property
    def is_unchanged(self) -> bool:
        try:
            return _mark(self.path.stat()) == self.mark
        except OSError:
            return False


def _read(path: Path) -> _File | None:
    """Read a loose or packed file; None if the file does not exist.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            mark = _mark(os.fstat(stream.fileno()))  # taken first, so that an addition while it is read is a change
            content = stream.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}. Allow it to be read, or move it out of the store."
        raise DataError(message, page="studies") from error
    if path.suffix == ".json":
        texts = [_Text(path=path, content=content, key=path.stem)]
    else:
        texts = [
            _Text(path=path, content=line, key=_key_of(line), number=number)
            for number, line in enumerate(content.split(b"\n"), start=1)
            if line.strip()
        ]
    by_key = {text.key: text for text in texts if text.key is not None}
    return _File(path=path, mark=mark, texts=tuple(texts), by_key=by_key)


def _mark(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _key_of(line: bytes) -> str | None:
    """Return the key of a line; None if the key cannot be read."""
    if head := _HEAD.match(line):
        return head[1].decode()
    try:
        key = json.loads(line.decode())["key"]
    except (LookupError, TypeError, ValueError, RecursionError):
        return None
    return key if isinstance(key, str) and re.fullmatch("[0-9a-f]{1,64}", key) else None


def _checked(read: Iterable[_File]) -> dict[str, _Text]:
    """Return, by key, the text that counts.

    Args:
        read: All files, of which a later one counts in place of an earlier one.

    Raises:
        DataError: If any text is damaged, even if it does not count.
    """
    counted = {}
    for text in (text for file in read for text in file.texts):
        counted[text.entry()["key"]] = text
    return counted


def _delete(read: Iterable[_File]) -> None:
    """Delete files, except those that have changed since they were read.

    Raises:
        OutputError: If a file cannot be deleted.
    """
    for file in read:
        if file.is_unchanged:
            try:
                file.path.unlink(missing_ok=True)
            except OSError as error:
                why = f"{error.strerror}. Delete it yourself: its runs are in other files of the store, too."
                raise OutputError(f"cannot delete {file.path}: {why}") from error


def _table(where: str, value: Any) -> None:
    """Raise ValueError unless `value` is a square table of numbers, in which null is "not tested"."""
    row = expected.listed(expected.optional(expected.number()), len(value) if isinstance(value, list) else None)
    expected.listed(row)(where, value)


_WHOLE, _NUMBER = expected.whole(), expected.optional(expected.number())
#: What the library's own methods return under these names. What others return is not known.
_RESULTS: dict[str, expected.Form] = {
    "accuracy": expected.either(expected.number(), _table),
    "owned": expected.either(_WHOLE, expected.listed(_WHOLE)),
    "private": expected.listed(_WHOLE),
    "prunes": expected.listed(expected.listed(expected.number(0, 1 + 1e-4), 2)),
    **dict.fromkeys(("n_steps", "n_weights", "night_steps"), _WHOLE),
    **dict.fromkeys(("mean_accuracy", "backward_transfer", "forgetting"), _NUMBER),
}


def _check_result(entry: Mapping[str, Any], method: Any) -> None:
    """Raise ValueError if a value of an entry cannot be what a run has left there.

    Args:
        entry: The entry.
        method: The description of the run's method.
    """
    expected.number(0)("seconds", entry.get("seconds", 0.0))
    expected.mapping(expected.text())("machine", entry.get("machine", {}))
    name = method.get("function") if isinstance(method, dict) else None
    if isinstance(name, str) and name.startswith("daynight.study."):
        for what, value in entry["result"].items():
            _RESULTS.get(what, expected.anything)(what, value)


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no result")
