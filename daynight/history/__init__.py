"""What has happened: records, progress events, the hooks that get both, and the history that keeps records."""

from daynight.history.history import History
from daynight.history.records import (
    COLUMNS,
    LATER,
    SEES,
    Event,
    Hook,
    Progress,
    Record,
    cells_of,
    columns_of,
    hooks_of,
    ignore,
    record_of,
)

__all__ = [
    "COLUMNS",
    "LATER",
    "SEES",
    "Event",
    "History",
    "Hook",
    "Progress",
    "Record",
    "cells_of",
    "columns_of",
    "hooks_of",
    "ignore",
    "record_of",
]
