"""Rows as pandas frames, if pandas is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from daynight.errors import MissingPackageError

if TYPE_CHECKING:
    import pandas


def frame_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pandas.DataFrame:
    """Return rows as a pandas frame.

    Args:
        rows: Values by the names of columns.
        columns: Names and order of the columns; None takes those of the rows.

    Raises:
        MissingPackageError: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise MissingPackageError("to_frame needs pandas. Install it with: pip install 'daynight[frames]'") from error
    return pandas.DataFrame(rows, columns=None if columns is None else list(columns))
