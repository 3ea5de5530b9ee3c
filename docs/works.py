"""Writes the tables of the page "What works with what" from the raw results of two benchmarks."""

import collections
import csv

import rows
from pages import GENERATED, HERE

#: Kinds of a table's rows in their order, with the words for them in the summary.
OPTIMIZERS = {"optimizer": "optimizers", "scheduler": "schedulers", "loss": "losses"}
NETWORKS = {
    "torchvision": "torchvision", "timm": "timm", "transformers": "transformers", "torch_geometric": "torch_geometric",
    "torch.nn": "torch.nn",
}  # fmt: skip
#: Columns of the summary: the word that a verdict begins with, as a reader is told.
SUMMARY = {
    "works": "works", "works, with": "works, with a condition", "refused": "refused",
    "over the limit": "over the limit", "script failed": "not tried", "raw error": "raw error",
    "wrong in silence": "wrong in silence",
}  # fmt: skip


def write_all():
    """Write the tables of both benchmarks; where results are missing, the page says so."""
    write("works_optimizers", OPTIMIZERS, optimizer_tables)
    write("works_networks", NETWORKS, network_tables)


def write(name, kinds, tables):
    """Write the summary of a benchmark, and its tables."""
    path = HERE / "results" / f"{name}.csv"
    if not path.is_file():
        for part in ("summary", *kinds, "about"):
            (GENERATED / f"{name}_{part}.rst").write_text("Not measured yet.\n")
        return
    about, found = rows.read(path)
    (GENERATED / f"{name}_about.rst").write_text(f"Measured with {about}.\n")
    counts = collections.Counter((row["kind"], beginning(row["verdict"])) for row in found)
    shown = [begin for begin in SUMMARY if begin in ("works", "works, with", "refused") or any(
        counts[kind, begin] for kind in kinds)]  # fmt: skip
    table = [["", *(SUMMARY[begin] for begin in shown)]]
    table += [[word, *(counts[kind, begin] for begin in shown)] for kind, word in kinds.items()]
    write_table(f"{name}_summary", table)
    for kind in kinds:
        tables(f"{name}_{kind}", [row for row in found if row["kind"] == kind])


def beginning(verdict):
    """Give which of the kinds of verdicts a verdict is."""
    return rows.VERDICTS[rows.rank(verdict)]


def optimizer_tables(name, found):
    """Write which optimizers work as they are, in a line for each package, and a table of the others, by reason."""
    fine, others = collections.defaultdict(list), collections.defaultdict(list)
    for row in sorted(found, key=lambda row: rows.rank(row["verdict"])):
        package, _, short = row["name"].rpartition(".") if row["kind"] != "loss" else ("", "", row["name"][6:])
        if row["verdict"] == "works":
            fine[package].append(short)
        else:
            others[package, told(row["verdict"].replace(short, "it"))].append(short)
    lines = []
    for package, names in fine.items():
        where = f" of ``{package}``" if package else ""
        lines += [f"These{where} work as they are: {', '.join(f'``{one}``' for one in names)}.", ""]
    if others:
        table = [
            ["", "verdict"],
            *((names_of(package, names), verdict) for (package, verdict), names in others.items()),
        ]
        lines += csv_table(f"{name}_others", table, "30 70")
    write_lines(name, lines)


def names_of(package, names):
    """Give names of a package in one cell."""
    return (f"``{package}``: " if package else "") + ", ".join(f"``{name}``" for name in names)


def told(verdict):
    """Give a verdict for a reader; an error that was cut off ends with a whole word and three dots."""
    is_cut = len(verdict) > rows.N_LETTERS and verdict[-1].isalnum()
    return literal(verdict.rpartition(" ")[0] + " ..." if is_cut else verdict)


def literal(text):
    """Give a text in which nothing is markup."""
    return "".join("\\" + letter if letter in "\\*`|_<>" else letter for letter in text)


def network_tables(name, found):
    """Write a table with one row for each network."""
    table = [["network", "taken", "masked", "bits, file", "export", "step over plain"]]
    for row in found:
        is_done = bool(row["file"])
        are_kept = "yes" if all(row[key] == "yes" for key in ("frozen", "subnetwork", "file")) else "no"
        exports = ", ".join(f".{form}" for form in ("pt2", "onnx") if row[form] == "yes") or "none"
        table.append([
            literal(row["name"].partition(" ")[2]), told(taken(row)),
            f"{float(row['masked share']):.0%}" if row["masked share"] else "", are_kept if is_done else "",
            exports if is_done else "", f"{float(row['step over plain']):.1f}" if row["step over plain"] else "",
        ])  # fmt: skip
    write_lines(name, csv_table(name, table, "22 38 8 8 12 12") if found else [])


def taken(row):
    """Give how a network was taken, or why it was not."""
    verdict = row["verdict"]
    return "as it is" if verdict == "works" else verdict.removeprefix("works, ")


def write_table(name, table):
    """Write a table, and the page to include that shows it."""
    write_lines(name, csv_table(name, table))


def write_lines(name, lines):
    """Write a page to include; if there is nothing to show, it says so."""
    (GENERATED / f"{name}.rst").write_text("\n".join(lines or ["Not measured yet."]) + "\n")


def csv_table(name, table, widths=None):
    """Write a table as CSV, and give the lines that show it."""
    with (GENERATED / f"{name}.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(table)
    lines = [".. csv-table::", f"   :file: {name}.csv", "   :header-rows: 1"]
    return lines + ([f"   :widths: {widths}"] if widths else [])
