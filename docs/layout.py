"""How the package is laid out: its packages and modules, from the ground up, and what lives in each.

A module imports from earlier rows of this list, and from its own package; never from the others of its row, or from
later ones. ``tests/test_structure.py`` holds the code to it, and the page on the design shows it.
"""

#: Each row: packages and top-level modules that do not import each other, and what they are for.
LAYERS = (
    (("errors", "metrics"), "one root of errors; scores of outputs"),
    (("support",), "argument checks, random streams, interrupts, digests, frames, files written whole or not at all"),
    (
        ("data", "history", "models", "rates", "criteria"),
        "examples, tasks, streams, replay and drift; what happened; the networks of the paper; learning rates; scores "
        "of weights",
    ),
    (
        ("networks", "nights"),
        "`MaskedNetwork`, the only writer of owner maps, and what is made of it; budgets, cycles, policies, the gate",
    ),
    (("pruning", "plots"), "capacity, and scores to masks; figures"),
    (
        ("training", "reports", "loggers"),
        "settings, checks before training, the loop, the night and its engines, outputs and scores, what tasks keep of "
        "their data; a history as one HTML file; CSV, TensorBoard, MLflow and the progress bar",
    ),
    (
        ("storage",),
        "what an agent keeps of finished tasks; agents and checkpoints in files, and the names that files know things "
        "by",
    ),
    (("agent",), "`Agent`: wakes, sleeps, answers, is kept"),
    (("clock",), "`Clock`: takes an agent through the days of a stream, and never touches a tensor"),
    (("study", "testing"), "many runs, kept and compared, and the paper remade; toys and the check of policies"),
    (("cli",), "the command line"),
)
#: Imports within a method that go against the order, each with its reason.
EXCEPTIONS = {("history.history", "reports"): "History.report writes a report when it is called, and not before."}


def row_of(name):
    """Return the index of the row that a module, such as ``nights.cycle``, belongs to."""
    first = name.partition(".")[0]
    return next(index for index, (names, _) in enumerate(LAYERS) if first in names)


def measured():
    """Return how many packages and top-level modules the code has, and how many rows their imports need."""
    import ast
    from pathlib import Path

    package, below = Path(__file__).parents[1] / "daynight", {}
    for path in package.rglob("*.py"):
        own = path.relative_to(package).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            names += [f"{node.module}.{alias.name}" for alias in node.names] if names else []
            firsts = {name.split(".")[1] for name in names if name.startswith("daynight.")}
            below.setdefault(own, set()).update(first for first in firsts if first != own)
    for own, name in EXCEPTIONS:
        below[own.partition(".")[0]].discard(name)
    known = {own: {name for name in names if name in below} for own, names in below.items()}
    rows = {}
    while len(rows) < len(known):
        rows |= {
            own: 1 + max((rows[name] for name in names), default=0)
            for own, names in known.items() if own not in rows and names <= rows.keys()
        }  # fmt: skip
    return len(known), max(rows.values())


if __name__ == "__main__":
    print("{} packages and top-level modules in {} rows".format(*measured()))
