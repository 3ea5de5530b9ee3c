"""The year of flights: its benchmark's own arithmetic, on made-up flights."""

import importlib
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def flight(**changed):
    usual = {
        "year": 2013, "month": 1, "day": 1, "dep_time": 900, "sched_dep_time": 900, "dep_delay": 0.0,
        "sched_arr_time": 1100, "arr_delay": 0.0, "carrier": "UA", "tailnum": "N1", "origin": "EWR", "dest": "IAH",
        "distance": 1400, "time_hour": "2013-01-01T14:00:00Z",
    }  # fmt: skip
    return usual | changed


def made(module, flights):
    seen = {"temp": 40.0, "dewp": 20.0, "humid": 50.0, "wind_dir": 90.0, "wind_speed": 10.0, "wind_gust": None}
    seen |= {"precip": 0.0, "pressure": 1000.0, "visib": 10.0}
    weather = [
        {"origin": "EWR", "time_hour": f"2013-01-01T{hour}:00:00Z", **seen, "temp": temp}
        for hour, temp in ((12, 30.0), (13, 50.0), (14, 99.0))
    ]
    planes = [{"tailnum": "N1", "year": 2003.0, "seats": 100}]
    tables = map(pd.DataFrame, (flights, weather, planes))
    return module("flights").made(*tables)


def test_a_flight_has_the_weather_of_the_hour_before_and_its_plane(module):
    found = made(module, [flight(), flight(sched_dep_time=800, time_hour="2013-01-01T13:00:00Z", tailnum="N2")])
    assert found.table.temp.tolist() == [30.0, 50.0]  # in the order of departures
    assert found.table.wind_x.tolist() == pytest.approx([10.0, 10.0])
    assert math.isnan(found.table.age[0])
    assert found.table.age[1] == 10
    assert found.inputs[:, found.names.index("age missing")].tolist() == [1.0, 0.0]


def test_flights_without_an_arrival_are_left_out_and_late_begins_after_15_minutes(module):
    delays = (15.0, 16.0, None)
    found = made(module, [flight(sched_dep_time=900 + place, arr_delay=delay) for place, delay in enumerate(delays)])
    assert found.left_out.tolist() == [0]
    assert found.late.tolist() == [0, 1]


def test_days_are_found_and_places_that_january_does_not_have_share_a_feature(module):
    found = made(module, [flight(), flight(month=2, day=2, dest="XYZ"), flight(month=2, day=2, dest="ABC")])
    assert found.n_days == 33
    assert found.of(0) == slice(0, 1)
    assert found.of(1) == slice(1, 1)
    assert found.of(0, 32) == slice(0, 1)
    assert found.of(32) == slice(1, 3)
    assert found.inputs[:, found.names.index("dest other")].tolist() == [0.0, 1.0, 1.0]
    assert "dest XYZ" not in found.names


def test_river_reads_kinds_as_text_or_features_that_are_not_zero(module):
    found = made(module, [flight(tailnum="N9")])
    flights = module("flights")
    (kinds,) = flights.river_rows(found, slice(0, 1), as_kinds=True)
    assert kinds["dest"] == "IAH"
    assert "age" not in kinds
    (features,) = flights.river_rows(found, slice(0, 1), as_kinds=False)
    assert features["dest IAH"] == 1.0
    assert "carrier" not in features
    assert all(features.values())


def test_the_area_counts_pairs_and_ties_as_half(module):
    late, probability = torch.tensor([0, 1, 1, 0]), torch.tensor([0.1, 0.8, 0.3, 0.3])
    year = module("year")
    assert year.auc_of(late, probability) == 3.5 / 4
    assert math.isnan(year.auc_of(late * 0, probability))


def test_a_night_passes_through_the_day_and_takes_all_steps(module):
    year = module("year")
    drawn = list(year.batches(slice(50, 350), False, torch.Generator().manual_seed(0)))
    assert len(drawn) == year.STEPS
    assert torch.cat(drawn[:3]).sort().values.tolist() == list(range(50, 350))
    drawn = list(year.batches(slice(50, 60), True, torch.Generator().manual_seed(0)))
    assert [len(index) for index in drawn] == [year.BATCH] * year.STEPS
    assert set(torch.cat(drawn).tolist()) == set(range(50, 60))


def test_an_interval_needs_two_seeds(module):
    year = module("year")
    assert math.isnan(year.half_width([0.9]))
    assert year.half_width([0.0, 1.0]) == pytest.approx(12.7062 * 0.5, rel=1e-4)  # t at 0.975, one degree of freedom
