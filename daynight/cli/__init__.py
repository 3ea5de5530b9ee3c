"""The command line: ``daynight run``, ``study``, ``report`` and ``verify``."""
