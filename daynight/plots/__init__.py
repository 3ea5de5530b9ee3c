"""Figures of runs and nights. Each function draws in the given axes or in a new figure, and returns the axes."""

from daynight.plots.nights import descent, hypnogram, plan
from daynight.plots.runs import accuracy, capacity, means, ownership, versions
from daynight.plots.style import COLOURS, save, shades

__all__ = [
    "COLOURS", "accuracy", "capacity", "descent", "hypnogram", "means", "ownership", "plan", "save", "shades",
    "versions",
]  # fmt: skip
