"""Tools for tests: toy tasks and networks, a simulated clock, and a check of policies."""

from daynight.testing.policies import check_policy
from daynight.testing.timers import FakeTimer
from daynight.testing.toys import toy_network, toy_stream

__all__ = ["FakeTimer", "check_policy", "toy_network", "toy_stream"]
