"""Loggers: hooks that show or write the events of a run while it goes on, and a log of nights."""

from daynight.loggers.csv_log import CSVLogger
from daynight.loggers.mlflow import MLflowLogger
from daynight.loggers.night_log import log_failure, log_night
from daynight.loggers.progress import ProgressBar, n_steps_after
from daynight.loggers.tensorboard import TensorBoardLogger, scalars

__all__ = [
    "CSVLogger", "MLflowLogger", "ProgressBar", "TensorBoardLogger", "log_failure", "log_night", "n_steps_after",
    "scalars",
]  # fmt: skip
