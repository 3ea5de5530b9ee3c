"""Where a number of a study comes from: which runs, in which files, with which settings."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from daynight.errors import DataNotFoundError, SettingError
from daynight.study.entries import OF_RUN, Entry, setting
from daynight.study.labels import Labels, is_number
from daynight.study.results import Results
from daynight.study.statistics import Summary
from daynight.study.store import Store

#: At most so many groups of runs are shown in full.
N_SHOWN = 5
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?(\s*%)?$", re.IGNORECASE)


@attrs.frozen
class Source:
    """What a number may be: one result of runs that differ in their seed alone, or of one of them.

    Attributes:
        runs: The runs.
        name: Name of the result.
        seed: The seed of the one run whose result it is; None for the mean of `runs`.
        summary: The result over all of `runs`.
        n_seeds: Number of runs with these settings, of which `runs` are all or the first.
    """

    runs: Results
    name: str
    seed: int | None
    summary: Summary
    n_seeds: int


def sources(results: Results, text: str) -> list[Source]:
    """Return what a number in a table or figure may be: means over all seeds, over the first seeds, or single runs.

    Of each kind, runs with the fewest settings come first: those that are as the study usually has them.

    Args:
        results: The runs of a store.
        text: The number as it is printed: a mean, or the result of a run, rounded to as many digits. For a result from
            0 to 1, it may also be an error, 1 minus the result, and each of these in percent; with ``%``, only in
            percent. Differences, compressions and ends of intervals are not found: they come from several results.

    Raises:
        SettingError: If `text` is not a number.
    """
    text = text.replace("\N{MINUS SIGN}", "-")  # as tables print it
    if not _NUMBER.match(text.strip()):
        raise SettingError(f"explain: {text!r} is not a number, such as 0.9891 or 1.09%.", page="studies")
    found: list[list[Source]] = [[], [], []]
    for runs in groups(results):
        ordered, n = sorted(runs, key=_seed), len(runs)
        for name in names(runs):
            values, summary = runs.values(name), runs.summary(name)
            if is_shown_as(summary.mean, text):
                found[0].append(Source(runs, name, None, summary, n))
            else:
                parts = (Results(ordered[:k]) for k in range(n - 1, 1, -1))  # tables and figures may have few seeds
                few = ((part, part.summary(name)) for part in parts)
                found[1] += [Source(part, name, None, own, n) for part, own in few if is_shown_as(own.mean, text)]
            if n > 1:
                found[2] += [Source(runs, name, seed, summary, n) for seed in values if is_shown_as(values[seed], text)]
    return [source for kind in found for source in kind]


def groups(results: Results) -> list[Results]:
    """Return the runs that differ in nothing but their seed, group by group; those with the fewest settings first."""
    found: dict[str, list[Entry]] = {}
    names = {name for entry in results for name in entry["run"]["settings"]} - {"seed"}
    for entry in results:
        run = {**entry["run"], "settings": {name: setting(entry, name) for name in names}}
        found.setdefault(json.dumps(run, sort_keys=True), []).append(entry)
    return [Results(own) for _, own in sorted(found.items(), key=lambda item: (_n_settings(item[1][0]), item[0]))]


def _n_settings(entry: Entry) -> int:
    return len(entry["run"]["settings"])


def _seed(entry: Mapping[str, Any]) -> int:
    return int(entry["run"]["settings"].get("seed", 0))


def names(results: Results) -> list[str]:
    """Return the names of results that are a number in all runs."""
    first, *rest = ({name for name, value in entry["result"].items() if is_number(value)} for entry in results)
    return sorted(first.intersection(*rest))


def is_shown_as(value: float, text: str) -> bool:
    """Return whether a value, rounded, is printed as a text: as it is or, of a share, as an error, or in percent."""
    digits = text.strip().rstrip("% ")
    printed = float(digits)
    mantissa, _, exponent = digits.lower().partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    shares = [value, 1 - value] if 0 <= value <= 1 else []
    forms = [100 * share for share in shares] + ([] if "%" in text else [value, *shares])
    return any(abs(form - printed) <= unit / 2 * (1 + 1e-9) for form in forms)


def filtered(results: Results, filters: Sequence[str]) -> Results:
    """Return the runs whose settings are shown as given.

    Args:
        results: The runs.
        filters: Each ``NAME=VALUE`` or ``NAME=VALUE,VALUE``, such as ``"free_at_end=0.99"``, ``"seed=0,1,2"``,
            ``"method=packnet"`` or ``"policy=UniformCycles(n=8)"``: a number, or what tables and reports show. Of names
            such as ``daynight.study.methods.packnet``, the last part is enough. Of several values, or several filters
            of one name, runs may have any.

    Raises:
        SettingError: If a filter has another form, no run has such a setting, or no run is left.
    """
    wanted: dict[str, list[str]] = {}
    for text in filters:
        name, value = _parted(text)
        wanted.setdefault(name, []).append(value)
    for name, values in wanted.items():
        kept = {entry["key"] for value in values for entry in _having(results, name, value)}
        results = Results(entry for entry in results if entry["key"] in kept)
    return results


def _parted(text: str) -> tuple[str, str]:
    """Return the name and the value of a filter."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SettingError(f"a filter must be NAME=VALUE, such as policy.n=8, not {text!r}.", page="studies")
    return name, value


def _having(results: Results, name: str, value: str) -> Iterator[Entry]:
    """Yield the runs whose setting is shown as a text or, if there are none, as one of the texts between its commas."""
    several = value.split(",")
    try:
        yield from results.select(**{name: value})
    except SettingError:
        if len(several) < 2 or "(" in value:
            raise
        for one in several:
            yield from results.select(**{name: one})


def found_as(results: Results, text: str) -> tuple[str, Any]:
    """Return the name and the described value of a setting that a filter names.

    Args:
        results: The runs.
        text: A filter with one value, as in `filtered`.

    Raises:
        SettingError: As `filtered`.
    """
    name, value = _parted(text)
    return name, setting(results.select(**{name: value}).entries[0], name)


def described(store: Store, source: Source) -> Iterator[str]:
    """Yield lines on a source: what it is, the settings of its runs, and each run's value, key, file and line.

    Args:
        store: The store with the runs.
        source: The source.
    """
    which = "mean" if source.seed is None else f"seed {source.seed}, one of runs with the mean"
    if len(source.runs) < source.n_seeds:
        which += f" of the first {len(source.runs)} of {source.n_seeds} runs by seed"
    yield f"{source.name}, {which}: {source.summary}"
    yield "  settings, besides the seed:"
    run = source.runs.entries[0]["run"]
    named = Labels()
    for name in (*OF_RUN, *sorted(run["settings"])):
        if name != "seed":
            yield f"    {name} = {named.of(setting(source.runs.entries[0], name))}"
    yield "  runs:"
    for entry in sorted(source.runs, key=_seed):
        seed, value = entry["run"]["settings"].get("seed"), entry["result"].get(source.name)
        if source.seed in (None, seed):
            machine = entry.get("machine", {}).get("platform", "an unknown machine")
            seconds = entry.get("seconds", math.nan)
            shown = f"{value:.10g}" if is_number(value) else repr(value)
            yield f"    seed {seed}: {shown} in {seconds:.0f} s on {machine}, {_place(store, entry)}"


def _place(store: Store, entry: Mapping[str, Any]) -> str:
    """Return where the entry of a run is."""
    path, line = store.where(entry["key"])
    return f"{path}" if line is None else f"{path}, line {line}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print which runs, files and settings make a number, or which runs have some settings.

    Raises:
        DataNotFoundError: If the folder has no runs.
        SettingError: If no run makes the number, or has the settings.
    """
    parser = argparse.ArgumentParser(
        prog="daynight study explain",
        description="Print which runs, in which files and with which settings, make a number of a table or figure.",
        epilog="daynight study explain docs/results/study/mnist 0.9891 free_at_end=0.99",
    )
    parser.add_argument("store", help="the folder of a study's store")
    parser.add_argument("what", nargs="+", metavar="NUMBER-OR-FILTER", help="a mean, or the result of a run, as it is "
                        "printed, such as 0.9891 or, as an error in percent, 1.09 (not a difference, a compression or "
                        "the end of an interval); and settings, such as policy.n=8 or method=packnet")  # fmt: skip
    parser.add_argument("--all", action="store_true", help=f"show all, and not only the first {N_SHOWN}")
    settings = parser.parse_args(arguments)
    store = Store(settings.store)
    if not Path(settings.store).is_dir() or not len(store):
        raise DataNotFoundError(
            f"there are no runs in {settings.store}. Name the folder of a study's store.", page="studies"
        )
    numbers = [text for text in settings.what if "=" not in text]
    if len(numbers) > 1:
        raise SettingError(f"explain one number at a time, not {' and '.join(numbers)}.", page="studies")
    results = filtered(Results(store), [text for text in settings.what if "=" in text])
    if numbers:
        found = sources(results, numbers[0])
        if not found:
            raise SettingError(
                f"no mean and no run is {numbers[0]}, of {len(results)} runs. Fewer digits find more: a number may be "
                "rounded in another way. Differences, compressions and ends of intervals are not found.",
                page="studies",
            )  # fmt: skip
    else:
        found = [
            Source(runs, name, None, runs.summary(name), len(runs)) for runs in groups(results) for name in _main(runs)
        ]
        if not found:
            raise SettingError(
                f"{len(results)} runs have these settings, and no result that is a number.", page="studies"
            )
    shown = found if settings.all else found[:N_SHOWN]
    for source in shown:
        print("\n".join(described(store, source)))
    if len(shown) < len(found):
        print(f"{len(found) - len(shown)} more, with --all; name more settings for fewer.")


def _main(runs: Results) -> list[str]:
    """Return the name of the result that is shown if none was asked for."""
    known = names(runs)
    return [name for name in ("mean_accuracy", *known) if name in known][:1]
