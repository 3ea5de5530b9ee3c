"""The figures and tables of the paper, remade: ``python -m daynight.study.paper``."""
