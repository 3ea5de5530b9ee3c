"""Stores of made-up runs, for tests."""

import itertools
import json

from daynight.storage.identity import digest
from daynight.study import Store


def entry_of(seed, value=0.5):
    run = {"data": "d", "method": {"function": "m"}, "settings": {"seed": seed}, "version": "v", "views": []}
    return {"key": digest(run), "machine": {}, "result": {"value": value}, "run": run, "seconds": 1.25}


def line_of(entry):
    return json.dumps(entry, sort_keys=True) + "\n"


KEYS = [entry_of(seed)["key"] for seed in range(8)]


def laid_out(folder, *, loose=(), **packed):
    """Write entries, given as (seed, value), as loose files and as lines of packed files; return their store."""
    folder.mkdir(parents=True, exist_ok=True)
    for entry in itertools.starmap(entry_of, loose):
        (folder / f"{entry['key']}.json").write_text(line_of(entry))
    for name, lines in packed.items():
        (folder / f"{name}.jsonl").write_text("".join(line_of(entry_of(*line)) for line in lines))
    return Store(folder)


def values_in(store):
    return {entry["run"]["settings"]["seed"]: entry["result"]["value"] for entry in store}


def held_by(folder):
    """Return the values in a folder by seed, as another process sees them."""
    return values_in(Store(folder))


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}
