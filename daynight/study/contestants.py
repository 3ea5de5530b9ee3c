"""The policies of the tournament, none of which is told how much there is to prune."""

from __future__ import annotations

from daynight.cycles import GeometricCycles, GradualPruning, constant_share
from daynight.policies import SleepPolicy, UniformCycles
from daynight.rates import AdaptiveLinear, Cosine, Linear
from daynight.reactive import Controlled
from daynight.wrappers import Rated, Rewound, WarmStart

#: The N of the study's Figure 2.
UNIFORM: dict[str, SleepPolicy] = {
    f"uniform {n}": UniformCycles(n) for n in (1, 2, 3, 4, 6, 8, 9, 12, 18, 24, 36, 72)
}  # fmt: skip
#: One first look at each kind of night, and then what seemed worth another.
DESIGNS: dict[str, SleepPolicy] = {
    # REMs that lengthen, or shorten.
    "lengthening 12, 16": GeometricCycles(12, 16),
    "lengthening 24, 16": GeometricCycles(24, 16),
    "lengthening 72, 16": GeometricCycles(72, 16),
    "lengthening 36, 64": GeometricCycles(36, 64),
    "shortening 12, 16": GeometricCycles(12, 1 / 16),
    # Many short cycles and a long last REM.
    "gradual 24, 50 %": GradualPruning(24, 0.5),
    "gradual 72, 30 %": GradualPruning(72, 0.3),
    "gradual 72, 50 %": GradualPruning(72, 0.5),
    "gradual 72, 70 %": GradualPruning(72, 0.7),
    "gradual 200, 50 %": GradualPruning(200, 0.5),
    "constant 24, 50 %": GradualPruning(24, 0.5, density=constant_share),
    "constant 72, 50 %": GradualPruning(72, 0.5, density=constant_share),
    "constant 72, 70 %": GradualPruning(72, 0.7, density=constant_share),
    # Learning rates that fall.
    "uniform 1, linear": Rated(UniformCycles(1), Linear()),
    "uniform 8, linear": Rated(UniformCycles(8), Linear()),
    "uniform 8, linear night": Rated(UniformCycles(8), Linear(), "night"),
    "uniform 36, linear night": Rated(UniformCycles(36), Linear(), "night"),
    "uniform 8, adaptive": Rated(UniformCycles(8), AdaptiveLinear(0.6, 1 / 8)),
    "gradual 72, 50 %, linear night": Rated(GradualPruning(72, 0.5), Linear(), "night"),
    "constant 72, 50 %, linear night": Rated(GradualPruning(72, 0.5, density=constant_share), Linear(), "night"),
    "constant 72, 50 %, cosine night": Rated(GradualPruning(72, 0.5, density=constant_share), Cosine(), "night"),
    "constant 72, 50 %, rising": Rated(GradualPruning(72, 0.5, density=constant_share), Linear(3.0, 0.0), "night"),
    "lengthening 72, 16, linear night": Rated(GeometricCycles(72, 16), Linear(), "night"),
    # Weights of the wake, or more of it.
    "uniform 1, rewound": Rewound(UniformCycles(1), 0.05),
    "uniform 8, rewound": Rewound(UniformCycles(8), 0.05),
    "constant 72, 50 %, late": WarmStart(GradualPruning(72, 0.5, density=constant_share), 0.2),
    # What reacts.
    "controlled 0.003": Controlled(0.003),
    "controlled 0.01": Controlled(0.01),
    "controlled 0.03, 50 %": Controlled(0.03, last=0.5),
}
