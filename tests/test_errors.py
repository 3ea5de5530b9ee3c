"""Errors: what they are, and that each leads to a page that there is."""

import inspect
import pickle
import traceback
from pathlib import Path

import pytest

from daynight import errors

DOCS = Path(__file__).parent.parent / "docs"
ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", ALL)
def test_page_of_an_error_exists(kind):
    assert (DOCS / f"{kind.page}.rst").is_file()
    assert f"``{kind.__name__}``" in (DOCS / "troubles.rst").read_text() or kind in (
        errors.DaynightError, errors.ReactivePolicyError)  # fmt: skip


@pytest.mark.parametrize("kind", ALL)
def test_an_error_says_what_it_was_told_and_goes_between_processes(kind):
    error = pickle.loads(pickle.dumps(kind("what, which rule, what to do.")))
    assert str(error) == "what, which rule, what to do."
    assert isinstance(error, errors.DaynightError)
    assert error.__notes__ == [error.more]


def test_a_traceback_ends_with_the_page():
    lines = traceback.format_exception(errors.NetworkError("no."))
    assert lines[-1] == "More: docs/networks.rst of daynight.\n" or not hasattr(Exception, "add_note")
