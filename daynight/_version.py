"""The version of daynight."""

__version__ = "0.1.0.dev0"
