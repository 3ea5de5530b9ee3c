"""Sleep policies compared: ``python -m daynight.study.tournament``."""
