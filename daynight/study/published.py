"""What the study reports in numbers, to stand beside what is measured.

Source: Ball et al., "A Study on Efficiency in Continual Learning Inspired by Human Learning".
"""

from __future__ import annotations

#: Mean accuracy of PackNet with one cycle a night, by data set and p: the titles of Figure 3.
ACCURACY: dict[str, dict[float, float]] = {
    "mnist": {0.95: 0.996, 0.99: 0.989, 0.995: 0.970},
    "cifar10": {0.8: 0.891, 0.9: 0.843, 0.95: 0.797},
}
ACCURACY["cifar10-small"] = ACCURACY["cifar10"]  # for the shape: the study has no such size
#: Compression against PackNet at equal accuracy, by data set, method and p: Table 1.
COMPRESSION: dict[str, dict[str, dict[float, float]]] = {
    "mnist": {
        "Memory": {0.95: 1.17, 0.99: 1.45, 0.995: 1.54},
        "Multinet": {0.95: 1.63, 0.99: 2.77, 0.995: 3.32},
    },
    "cifar10": {
        "Memory": {0.8: 1.60, 0.9: 2.25, 0.95: 2.08},
        "Multinet": {0.8: 2.82, 0.9: 2.26, 0.95: 2.27},
    },
}
COMPRESSION["cifar10-small"] = COMPRESSION["cifar10"]
