"""`Results`: the results of runs, to select, summarize and write."""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daynight.errors import SettingError
from daynight.storage.identity import describe, digest
from daynight.study import statistics
from daynight.study.statistics import CONFIDENCE, Summary
from daynight.support import atomic
from daynight.support.frames import frame_of

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes

Entry = Mapping[str, Any]

#: The parts of a run's description besides its settings.
_OF_RUN = ("method", "data", "version")


class Results:
    """The entries of runs. Each has ``run``, a description, and ``result``, what its method returned.

    Args:
        entries: Entries of a `Store`.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def select(self, **settings: Any) -> Results:
        """Return the runs with these settings, such as ``select(method=packnet, free_at_end=0.99)``.

        A setting that was left at the method's default is not among a run's settings.

        Raises:
            SettingError: If no run has a setting of that name.
        """
        self._check_names(settings)
        wanted = {name: describe(value) for name, value in settings.items()}
        return Results(
            entry for entry in self.entries if all(setting(entry, name) == value for name, value in wanted.items())
        )

    def values(self, name: str) -> dict[int, Any]:
        """Return one of the results, such as ``"mean_accuracy"``, by seed.

        Raises:
            SettingError: If two runs share a seed, or a run has no such result.
        """
        found: dict[int, Any] = {}
        for entry in self.entries:
            seed = setting(entry, "seed")
            if seed in found:
                raise SettingError(
                    f"values: several runs have the seed {seed}. Select those of one kind first, for example with "
                    "select(free_at_end=0.99), or group by more settings."
                )
            if name not in entry["result"]:
                known = ", ".join(sorted(entry["result"]))
                raise SettingError(f"values: a run has no result {name!r}, only {known}.", page="studies")
            found[seed] = entry["result"][name]
        return dict(sorted(found.items()))

    def summary(self, name: str, confidence: float = CONFIDENCE) -> Summary:
        """Return the summary of one of the results over the seeds.

        Raises:
            SettingError: If two runs share a seed, there are no runs, or a run has no such result.
        """
        return statistics.summarize(list(self.values(name).values()), confidence)

    def compare(self, other: Results, name: str, confidence: float = CONFIDENCE) -> Summary:
        """Return the summary of the differences in one result, these runs minus `other`, by seed (see `paired`)."""
        return statistics.paired(self.values(name), other.values(name), confidence)

    def groups(self, *names: str) -> dict[tuple[Any, ...], Results]:
        """Return the runs by the values of some settings, in the order of the entries.

        Args:
            names: Names of settings, ``"method"``, ``"data"``, ``"version"`` or ``"machine"``. A dot leads to an
                attribute of a policy or budget, as in ``"policy.n"``, or to the kind of machine,
                ``"machine.platform"``. A value that is not a number or text is shown as text, with its arguments.

        Raises:
            SettingError: If no run has a setting of that name.
        """
        self._check_names(names)
        found: dict[tuple[Any, ...], list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(tuple(_hashable(setting(entry, name)) for name in names), []).append(entry)
        return {key: Results(entries) for key, entries in found.items()}

    def _check_names(self, names: Iterable[str]) -> None:
        known = {name for entry in self.entries for name in entry["run"]["settings"]} | {*_OF_RUN, "machine"}
        for name in names:
            if self.entries and name.partition(".")[0] not in known:
                raise SettingError(f"no run has a setting {name!r}, only {', '.join(sorted(known))}.", page="studies")

    def table(self, by: Sequence[str], values: Sequence[str], confidence: float = CONFIDENCE) -> list[dict[str, Any]]:
        """Return a row per combination of settings: the number of runs, and mean, error and interval of each result."""
        rows = []
        for key, group in self.groups(*by).items():
            row: dict[str, Any] = dict(zip(by, key, strict=True)) | {"runs": len(group)}
            for name in values:
                summary = group.summary(name, confidence)
                row |= {
                    name: summary.mean, f"{name} standard error": summary.standard_error,
                    f"{name} low": summary.low, f"{name} high": summary.high,
                }  # fmt: skip
            rows.append(row)
        return rows

    def to_csv(self, path: str | os.PathLike[str], by: Sequence[str], values: Sequence[str]) -> None:
        """Write `table` as CSV.

        Raises:
            OutputError: If the file cannot be written.
        """
        rows = self.table(by, values)
        with atomic.replacing(path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]) if rows else list(by))
            writer.writeheader()
            writer.writerows(rows)

    def to_frame(self) -> pandas.DataFrame:
        """Return the runs as a pandas frame with one row per run: method, settings, results, and seconds.

        A setting that is an object is shown as in `groups`; its numbers and texts are in columns such as ``policy.n``.

        Raises:
            MissingPackageError: If pandas is not installed.
        """
        rows = []
        for entry in self.entries:
            settings = entry["run"]["settings"]
            row = {name: _hashable(setting(entry, name)) for name in (*_OF_RUN, *settings)}
            for name, value in settings.items():
                if isinstance(value, Mapping) and "class" in value:
                    row |= {f"{name}.{part}": own for part, own in value.items() if _is_plain(own) and part != "class"}
            rows.append(row | entry["result"] | {"seconds": entry["seconds"]})
        return frame_of(rows)

    def report(
        self, path: str | os.PathLike[str], by: Sequence[str], values: Sequence[str], title: str = "A study"
    ) -> None:
        """Write `table`, and a figure of each value, into one self-contained HTML file.

        If a setting in `by` has numeric values, the last such setting is the horizontal axis of each figure. Each
        combination of the other settings is one line, with standard errors.

        Args:
            path: The file, such as ``"study.html"``.
            by: Names of the settings.
            values: Names of the results, such as ``"mean_accuracy"``.
            title: The title of the report.

        Raises:
            SettingError: If there are no runs, no run has such a setting, or a run has no such result.
            OutputError: If the file cannot be written.
        """
        from daynight import reports  # here and below, since workers of studies draw nothing, and begin sooner without

        if not self.entries:
            raise SettingError(
                "report: there are no runs. Name the folder of a study's store that has some.", page="studies"
            )
        rows = sorted(self.table(by, values), key=lambda row: [_place(row[name]) for name in by])
        numeric = [name for name in by if all(_is_number(row[name]) for row in rows)]
        pictures = [(self._drawn(numeric[-1], by, name), f"{name} by {numeric[-1]}") for name in values if numeric]
        facts = [f"{len(self)} runs", f"{len(rows)} combinations of {', '.join(by)}"]
        reports.of_rows(rows, pictures, path, title, facts)

    def _drawn(self, across: str, by: Sequence[str], value: str) -> Axes:
        """Draw the means of a value against a setting, with a line for each combination of the other settings."""
        from daynight import plots

        others, ax = [name for name in by if name != across], None
        lines = self.groups(*others) if others else {(): self}
        lines = dict(sorted(lines.items(), key=lambda line: [_place(item) for item in line[0]]))
        styles = zip(plots.shades(len(lines)), itertools.cycle("os^DvPX<>*"), strict=False)
        for (key, group), (colour, marker) in zip(lines.items(), styles, strict=False):
            samples = {key[0]: list(own.values(value).values()) for key, own in group.groups(across).items()}
            label = ", ".join(f"{name}={item}" for name, item in zip(others, key, strict=True)).replace("$", r"\$")
            ax = plots.means(samples, label, ax, colour, marker)
        assert ax is not None
        ax.set_xlabel(across)
        ax.set_ylabel(value)
        if others:
            ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
            figure = ax.get_figure(root=True)
            assert figure is not None
            figure.set_size_inches(8.5, max(3.6, 0.6 + 0.2 * len(lines)))
        return ax


def setting(entry: Entry, name: str) -> Any:
    """Return the description of a run's setting, or of another name for `Results.groups`; None if the run has none."""
    first, *rest = name.split(".")
    run = entry["run"]
    if first in _OF_RUN:
        value = run.get(first)
    elif first == "machine":
        value = run["settings"].get(first, entry.get(first))
    else:
        value = run["settings"].get(first)
    for part in rest:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _place(value: Any) -> tuple[bool, Any]:
    """Return the sort key of a value: numbers first, then texts."""
    return (False, value) if _is_number(value) else (True, str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)


def _hashable(value: Any) -> Any:
    """Return a described setting as a number, or as text that differs for different settings."""
    if isinstance(value, Mapping):
        return _shown(value)
    return tuple(map(_hashable, value)) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    """Return a description as text: ``MLP(784, 32)``, ``UniformCycles(n=4)``."""
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if not isinstance(value, Mapping):
        return repr(value)
    rest = dict(value)
    head = next((rest.pop(name) for name in ("function", "class", "partial", "name") if name in rest), "")
    head = head if isinstance(head, str) else _shown(head)
    arguments = [_shown(item) for item in rest.pop("args", [])] if "partial" in value else []
    rest |= rest.pop("settings", {}) if "partial" in value else {}
    if "code" in rest or "body" in rest:
        return f"{head} {digest(value)[:6]}"
    arguments += [f"{name}={_shown(item)}" for name, item in rest.items()]
    return head if not arguments and "class" not in value else f"{head}({', '.join(arguments)})"
