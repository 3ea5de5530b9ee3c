"""`Results`: the results of runs, to select, summarize and write."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daynight.errors import SettingError
from daynight.storage.identity import describe
from daynight.study import labels as naming
from daynight.study import statistics
from daynight.study.entries import OF_RUN, Entry, defaults, setting
from daynight.study.labels import Labels
from daynight.study.statistics import CONFIDENCE, Summary
from daynight.study.tables import Table
from daynight.support import atomic, checks
from daynight.support.frames import frame_of

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes


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

        A setting that a run leaves at its method's default equals the same value written out (see `setting`). A text
        may also be what tables and reports show of a value, such as ``policy="UniformCycles(n=8)"``, or the last part
        of a name, such as ``method="packnet"``.

        Raises:
            SettingError: If no run has a setting of that name, or a text is the value of no run.
        """
        self._check_names(settings)
        wanted = {name: self._descriptions(name, value) for name, value in settings.items()}
        return Results(
            entry for entry in self.entries if all(setting(entry, name) in known for name, known in wanted.items())
        )

    def _descriptions(self, name: str, value: Any) -> list[Any]:
        """Return the descriptions that a setting may have in the runs to have a value, which may be text for it."""
        groups = self.groups(name).values() if isinstance(value, str) else ()
        present = [setting(own.entries[0], name) for own in groups]
        if not present or value in present:
            return [describe(value)]
        if found := [one for one in present if value in naming.texts_of(one)]:
            return found
        known = sorted({naming.texts_of(one)[0] for one in present}, key=naming.natural)
        raise SettingError(
            f"no run has {name}={value}. Of {name} there {'are' if len(known) > 1 else 'is'} "
            f"{', '.join(known[:8])}{', ...' if len(known) > 8 else ''}.", page="studies",
        )  # fmt: skip

    def values(self, name: str) -> dict[int, Any]:
        """Return one of the results, such as ``"mean_accuracy"``, by seed.

        Raises:
            SettingError: If two runs share a seed, or a run has no such result.
        """
        found: dict[int, Any] = {}
        for entry in self.entries:
            seed = setting(entry, "seed")
            if seed in found:
                raise SettingError(f"values: several runs have the seed {seed}. {self._advice()}", page="studies")
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
        found = self.values(name)
        if odd := [seed for seed, value in found.items() if not naming.is_number(value) or not math.isfinite(value)]:
            raise SettingError(
                f"summary: {name!r} of the run with seed {odd[0]} is {checks.shown(found[odd[0]])}, and no finite "
                "number. Select the runs that have one, or another result.", page="studies",
            )  # fmt: skip
        return statistics.summarize(list(found.values()), confidence)

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
            found.setdefault(tuple(naming.hashable(setting(entry, name)) for name in names), []).append(entry)
        return {key: Results(entries) for key, entries in found.items()}

    def differing(self) -> dict[str, list[Any]]:
        """Return the settings besides the seed in which the runs differ, each with its values as `groups` shows them.

        The method, the data and the version are among them; the machine is not, nor a default that is written out.
        """
        names = [*OF_RUN, *dict.fromkeys(name for entry in self.entries for name in entry["run"]["settings"])]
        values = {
            name: list(dict.fromkeys(naming.hashable(setting(entry, name)) for entry in self.entries)) for name in names
        }
        return {name: found for name, found in values.items() if len(found) > 1 and name != "seed"}

    def _advice(self) -> str:
        """Return in which settings the runs differ, and what to do about it."""
        found = self.differing()
        if not found:
            return "They differ in no setting. Remove those that are there twice."
        shown, named = [], Labels()
        for name, values in found.items():
            texts = list(dict.fromkeys(_brief(named.of(setting(entry, name))) for entry in self.entries))
            shown.append(f"{name} ({', '.join(texts[:4])}{', ...' if len(values) > 4 else ''})")
        plain = next(((n, v) for n, values in found.items() for v in values if naming.is_number(v)), None)
        such = f", such as select({plain[0]}={plain[1]})" if plain else ""
        return f"They differ in {', '.join(shown)}. Select one value of each{such}, or group by them."

    def _check_names(self, names: Iterable[str]) -> None:
        known = {name for entry in self.entries for name in entry["run"]["settings"]} | {*OF_RUN, "machine"}
        methods = {str(method): method for method in (entry["run"].get("method") for entry in self.entries)}
        for name in names:
            first = name.partition(".")[0]
            if self.entries and first not in known and not any(first in defaults(own) for own in methods.values()):
                raise SettingError(f"no run has a setting {name!r}, only {', '.join(sorted(known))}.", page="studies")

    def table(
        self,
        by: Sequence[str],
        values: Sequence[str],
        confidence: float = CONFIDENCE,
        *,
        labels: Mapping[str, Any] | None = None,
        against: Mapping[str, Any] | None = None,
    ) -> Table:
        """Return a row per combination of settings: the number of runs, and mean, error and interval of each result.

        The table is a list of dicts, and prints as text in columns.

        Args:
            by: Names of the settings, as in `groups`.
            values: Names of the results.
            confidence: Probability that an interval covers its mean.
            labels: Values of settings by short names for them, such as ``{"once": dn.OneShot()}``.
            against: Some of the settings in `by`, with the values to compare with or their names in `labels`, such as
                ``{"policy": dn.OneShot()}``. Each row then has the paired differences (see `compare`) from the runs
                with these values and otherwise equal settings in `by`; how many pairs these are; and in
                ``"comparisons"``, how many differences the whole table has. With many of them, some intervals miss:
                for a `confidence` of all m together, pass 1 - 0.05 / m.

        Raises:
            SettingError: If no run has such a setting, a run has no such result, runs of a row share a seed, or
                `labels` or `against` is not valid.
        """
        for what, given in (("by", by), ("values", values)):
            if isinstance(given, str):
                raise SettingError(f"table: {what} must be a list of names, such as [{given!r}], not {given!r}.")
        groups = self.groups(*by)
        named = Labels(labels)
        keys = {key: tuple(named.of(setting(own.entries[0], name)) for name in by) for key, own in groups.items()}
        named.check(list(keys.values()))
        others = {} if against is None else self.others(by, against, labels)
        rows = []
        for key, group in groups.items():
            row: dict[str, Any] = dict(zip(by, keys[key], strict=True)) | {"runs": len(group)}
            for name in values:
                summary = group.summary(name, confidence)
                row |= {
                    name: summary.mean, f"{name} standard error": summary.standard_error,
                    f"{name} low": summary.low, f"{name} high": summary.high,
                }  # fmt: skip
                if against is not None:
                    row |= _difference(group, others.get(key), name, confidence)
            rows.append(row)
        if against is not None:
            n = sum(row[f"{name} pairs"] > 0 for row in rows for name in values)
            rows = [row | {"comparisons": n} for row in rows]
        return Table(rows, by, values)

    def others(
        self, by: Sequence[str], against: Mapping[str, Any], labels: Mapping[str, Any] | None = None
    ) -> dict[tuple[Any, ...], Results]:
        """Return what the groups of runs are compared with, by their keys in `groups`, if there are such runs.

        Args:
            by: Names of the settings.
            against: Values to compare with, as in `table`. Groups that have them are left out.
            labels: As in `table`.

        Raises:
            SettingError: If `against` is not a dict of some settings in `by`, or no run has these values.
        """
        checks.kind("against", against, Mapping, "{'policy': dn.OneShot()}")
        if missing := [name for name in against if name not in by] or ([] if against else ["it"]):
            raise SettingError(
                f"against: {missing[0]} is not one of the settings in by={list(by)}. Name at least one of these.",
                page="studies",
            )
        groups, named = self.groups(*by), Labels(labels)
        wanted = {by.index(name): naming.hashable(named.described(value)) for name, value in against.items()}
        found = {}
        for key in groups:
            other = tuple(wanted.get(index, item) for index, item in enumerate(key))
            if other != key and other in groups:
                found[key] = groups[other]
        if not found:
            first = [own.entries[0] for own in groups.values()]
            known = {name: dict.fromkeys(str(named.of(setting(entry, name))) for entry in first) for name in against}
            such = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in known.items())
            raise SettingError(
                f"against: there are no runs to compare with, which have {named.texts(against)} and are otherwise "
                f"equal in {', '.join(by)} to other runs. The runs have {such}.", page="studies",
            )  # fmt: skip
        return found

    def to_csv(
        self,
        path: str | os.PathLike[str],
        by: Sequence[str],
        values: Sequence[str],
        confidence: float = CONFIDENCE,
        *,
        labels: Mapping[str, Any] | None = None,
        against: Mapping[str, Any] | None = None,
    ) -> None:
        """Write `table` as CSV.

        Raises:
            OutputError: If the file cannot be written.
        """
        rows = self.table(by, values, confidence, labels=labels, against=against)
        with atomic.replacing(path) as temporary, temporary.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]) if rows else list(by))
            writer.writeheader()
            writer.writerows(rows)

    def to_frame(self, labels: Mapping[str, Any] | None = None) -> pandas.DataFrame:
        """Return the runs as a pandas frame with one row per run: method, settings, results, and seconds.

        A setting that is an object is shown as in `table`; its numbers and texts are in columns such as ``policy.n``.

        Args:
            labels: As in `table`.

        Raises:
            MissingPackageError: If pandas is not installed.
        """
        rows, named = [], Labels(labels)
        for entry in self.entries:
            settings = entry["run"]["settings"]
            row = {name: setting(entry, name) for name in (*OF_RUN, *settings)}
            row = {name: value if name == "seed" else named.of(value) for name, value in row.items()}
            for name, value in settings.items():
                if isinstance(value, Mapping) and "class" in value:
                    row |= {f"{name}.{part}": own for part, own in value.items() if _is_plain(own) and part != "class"}
            rows.append(row | entry["result"] | {"seconds": entry["seconds"]})
        return frame_of(rows)

    def report(
        self,
        path: str | os.PathLike[str],
        by: Sequence[str],
        values: Sequence[str],
        title: str = "A study",
        *,
        about: str = "",
        labels: Mapping[str, Any] | None = None,
        against: Mapping[str, Any] | None = None,
        bars: str = "intervals",
        confidence: float = CONFIDENCE,
    ) -> None:
        """Write `table`, and figures of each value (see `draw`), into one self-contained HTML file.

        The settings that all runs share are said below the title.

        Args:
            path: The file, such as ``"study.html"``.
            by: Names of the settings.
            values: Names of the results, such as ``"mean_accuracy"``.
            title: The title of the report.
            about: A line about the study, below the title.
            labels: As in `table`.
            against: As in `table`. With it, the differences have a figure, too.
            bars: As in `draw`.
            confidence: As in `table`.

        Raises:
            SettingError: If there are no runs, or an argument is not valid.
            OutputError: If the file cannot be written.
        """
        from daynight.study import pictures  # here and below, since workers draw nothing, and begin sooner without

        pictures.report(self, path, by, values, title, about, labels, against, bars, confidence)

    def draw(
        self,
        value: str,
        by: Sequence[str],
        *,
        labels: Mapping[str, Any] | None = None,
        against: Mapping[str, Any] | None = None,
        bars: str = "intervals",
        confidence: float = CONFIDENCE,
    ) -> Axes:
        """Draw the means of a result, or its paired differences, with n and what the bars are.

        If a setting in `by` has numbers, the last such setting is the horizontal axis. Otherwise, the values of the
        last setting are below each other, without lines between them: named ones in the order of `labels`, others in
        the order of the runs. Each combination of the other settings has its own colour and marker.

        Args:
            value: Name of the result.
            by: Names of the settings, at least one.
            labels: As in `table`.
            against: As in `table`. With it, the differences are drawn, with intervals.
            bars: ``"intervals"``, confidence intervals, or ``"standard errors"``.
            confidence: As in `table`.

        Raises:
            SettingError: If there are no runs, there would be more than 24 colours, or an argument is not valid.
        """
        from daynight.study import pictures

        return pictures.draw(self, value, by, labels, against, bars, confidence)


def _difference(group: Results, other: Results | None, name: str, confidence: float) -> dict[str, Any]:
    """Return the columns of the paired difference between two groups of runs; NaN if there is none."""
    shared = set() if other is None else group.values(name).keys() & other.values(name).keys()
    if other is None or not shared:
        found = statistics.Summary(0, math.nan, math.nan, math.nan, math.nan)
    else:
        found = group.compare(other, name, confidence)
    return {
        f"{name} difference": found.mean, f"{name} difference low": found.low,
        f"{name} difference high": found.high, f"{name} pairs": found.n,
    }  # fmt: skip


def _brief(value: Any) -> str:
    """Return a value as short text, for errors."""
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, int | float | str)
