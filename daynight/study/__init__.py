"""Studies: many runs of methods on streams, their results in a store, and statistics of the results."""

from daynight.study import measures
from daynight.study.measures import average_accuracy, backward_transfer, compression, forgetting, forward_transfer
from daynight.study.methods import fine_tuning, from_scratch, memory, multinet, outcome, packnet
from daynight.study.results import Results
from daynight.study.runner import Study
from daynight.study.runs import Run, grid
from daynight.study.statistics import Summary, paired, summarize
from daynight.study.store import Store

__all__ = [
    "Results",
    "Run",
    "Store",
    "Study",
    "Summary",
    "average_accuracy",
    "backward_transfer",
    "compression",
    "fine_tuning",
    "forgetting",
    "forward_transfer",
    "from_scratch",
    "grid",
    "measures",
    "memory",
    "multinet",
    "outcome",
    "packnet",
    "paired",
    "summarize",
]
