"""The policies of the tournament. Their settings do not depend on how much there is to prune."""

from __future__ import annotations

import math
import re

from daynight.nights.policy import SleepPolicy
from daynight.nights.reactive import Controlled
from daynight.nights.schedules import GeometricCycles, GradualPruning, UniformCycles, constant_share
from daynight.nights.wrappers import Rated, Rewound, WarmStart
from daynight.rates import AdaptiveLinear, Cosine, Linear

Named = dict[str, SleepPolicy]


def _gradual(n: int, last: float) -> SleepPolicy:
    return GradualPruning(n, last, density=constant_share)


def _slowing(share: float, dawn: float) -> float:
    """Return a density that falls more and more slowly, even relative to the density that is left."""
    return constant_share(math.sqrt(share), dawn)


def _held(share: float, cut: float) -> float:
    """Return a factor of the learning rate: 1 for four fifths of a REM, then falling to 0."""
    return min(1.0, (1 - share) / 0.2)


#: The N of the paper's Figure 2.
UNIFORM: Named = {f"uniform {n}": UniformCycles(n) for n in (1, 2, 3, 4, 6, 8, 9, 12, 18, 24, 36, 72)}
#: The other policies, by kind: the best of each kind in the screen is a finalist.
DESIGNS: dict[str, Named] = {
    "lengthening": {
        "lengthening 12, 16": GeometricCycles(12, 16),
        "lengthening 24, 16": GeometricCycles(24, 16),
        "lengthening 72, 16": GeometricCycles(72, 16),
        "lengthening 36, 64": GeometricCycles(36, 64),
        "lengthening 72, 4": GeometricCycles(72, 4),
        "lengthening 200, 16": GeometricCycles(200, 16),
    },
    "shortening": {
        "shortening 12, 16": GeometricCycles(12, 1 / 16),
        "shortening 36, 16": GeometricCycles(36, 1 / 16),
    },
    "cubic, long last REM": {
        "cubic 24, 50 %": GradualPruning(24, 0.5),
        "cubic 72, 30 %": GradualPruning(72, 0.3),
        "cubic 72, 50 %": GradualPruning(72, 0.5),
        "cubic 200, 50 %": GradualPruning(200, 0.5),
    },
    "equal shares, long last REM": {
        "equal shares 24, 50 %": _gradual(24, 0.5),
        "equal shares 72, 30 %": _gradual(72, 0.3),
        "equal shares 72, 50 %": _gradual(72, 0.5),
        "equal shares 72, 70 %": _gradual(72, 0.7),
        "equal shares 200, 50 %": _gradual(200, 0.5),
        "equal shares 200, 30 %": _gradual(200, 0.3),
        "slowing 72, 30 %": GradualPruning(72, 0.3, density=_slowing),
        "slowing 200, 30 %": GradualPruning(200, 0.3, density=_slowing),
    },
    "falling rate in each REM": {
        "uniform 1, falling": Rated(UniformCycles(1), Linear()),
        "uniform 8, falling": Rated(UniformCycles(8), Linear()),
        "uniform 8, adaptive": Rated(UniformCycles(8), AdaptiveLinear(0.6, 1 / 8)),
        "uniform 36, falling": Rated(UniformCycles(36), Linear()),
        "lengthening 24, 16, falling": Rated(GeometricCycles(24, 16), Linear()),
        "lengthening 72, 16, falling": Rated(GeometricCycles(72, 16), Linear()),
        "equal shares 72, 50 %, falling": Rated(_gradual(72, 0.5), Linear()),
        "equal shares 72, 50 %, falling from 3": Rated(_gradual(72, 0.5), Linear(3.0)),
        "equal shares 72, 50 %, half a cosine": Rated(_gradual(72, 0.5), Cosine()),
        "equal shares 72, 30 %, held and falling": Rated(_gradual(72, 0.3), _held),
    },
    "falling rate over the night": {
        "uniform 36, falling night": Rated(UniformCycles(36), Linear(), "night"),
        "lengthening 72, 16, falling night": Rated(GeometricCycles(72, 16), Linear(), "night"),
        "equal shares 72, 50 %, falling night": Rated(_gradual(72, 0.5), Linear(), "night"),
        "equal shares 72, 50 %, falling night from 3": Rated(_gradual(72, 0.5), Linear(3.0), "night"),
    },
    "higher rate": {
        "equal shares 72, 30 %, twice the rate": Rated(_gradual(72, 0.3), Linear(2.0, 2.0)),
        "equal shares 72, 30 %, three times the rate": Rated(_gradual(72, 0.3), Linear(3.0, 3.0)),
        "equal shares 72, 30 %, rising night": Rated(_gradual(72, 0.3), Linear(1.0, 3.0), "night"),
    },
    "rewinding": {
        "uniform 1, rewound": Rewound(UniformCycles(1), 0.05),
        "uniform 8, rewound": Rewound(UniformCycles(8), 0.05),
        "lengthening 12, 16, rewound": Rewound(GeometricCycles(12, 16), 0.05),
    },
    "late": {"equal shares 72, 50 %, late": WarmStart(_gradual(72, 0.5), 0.2)},
    "reactive": {
        "controlled 0.003": Controlled(0.003),
        "controlled 0.01": Controlled(0.01),
        "controlled 0.03": Controlled(0.03),
        "controlled 0.01, 50 %": Controlled(0.01, last=0.5),
        "controlled 0.003, 50 %": Controlled(0.003, last=0.5),
        "controlled 0.03, 50 %": Controlled(0.03, last=0.5),
        "controlled 0.01, 50 %, short": Controlled(0.01, 1 / 200, 0.5),
    },
}

#: What the names of policies mean: the name's beginning, and what it says in words.
_WORDS = (
    (r"uniform 1\b", "one prune"),
    (r"uniform (\d+)", r"\1 equal cycles"),
    (r"lengthening (\d+), (\d+)", r"\1 cycles, the last REM \2 times as long as the first"),
    (r"shortening (\d+), (\d+)", r"\1 cycles, the first REM \2 times as long as the last"),
    (r"cubic (\d+), (\d+ %)", r"\1 cubic prunes, \2 of the night for the last REM"),
    (r"equal shares (\d+), (\d+ %)", r"\1 prunes of equal shares, \2 of the night for the last REM"),
    (r"slowing (\d+), (\d+ %)", r"\1 prunes of falling shares, \2 of the night for the last REM"),
    (r"controlled ([\d.]+), (\d+ %)", r"prunes while the loss rises by less than \1, \2 for the last REM"),
    (r"controlled ([\d.]+)", r"prunes while the loss rises by less than \1"),
)
#: What is said after a comma, at the end of a name.
_ENDINGS = {
    "falling": "rate falls in each REM",
    "falling from 3": "rate falls from 3 in each REM",
    "adaptive": "rate falls in each REM from the size of the cut",
    "half a cosine": "rate falls as half a cosine in each REM",
    "held and falling": "rate held, then falls, in each REM",
    "falling night": "rate falls over the night",
    "falling night from 3": "rate falls from 3 over the night",
    "rising night": "rate rises to 3 over the night",
    "rewound": "weights rewound to 5 % of the wake",
    "late": "after 20 % of the night",
    "short": "in short cycles",
}


def in_words(name: str) -> str:
    """Return what a policy of the tournament does, by its name; a name of another policy is returned as it is."""
    for pattern, words in _WORDS:
        if match := re.match(pattern, name):
            *_, ending = name[match.end() :].split(", ")
            return match.expand(words) + (f", {_ENDINGS.get(ending, ending)}" if ending else "")
    return name
