"""Figures and tables of the tournament, from its runs and those of its streams."""

import contextlib
import itertools

from pages import (
    GENERATED,
    entries_of,
    unless_missing,
    with_interval,
    write_page,
    write_section,
)


def write_contest():
    """Write the page on choosing a policy. All of it is one part, since it is from the same few choices."""
    contest = contest_of_runs()
    write_tournament(contest, "mnist", "screen", "choose", "permuted", "rotated", "cifar10-small")
    write_section_of_choice(contest)
    write_gains(contest)
    write_dips_of_nights(contest)
    write_unequal(contest)
    write_runners_up(contest)


def contest_of_runs():
    """Give the tournament of the committed runs."""
    from daynight.study.paper import setups
    from daynight.study.tournament import tournament

    stores = {name: setups.reading(entries_of(name), is_whole=True) for name in ("nights", *tournament.STREAMS)}
    return tournament.Tournament(setups=tournament.streams(), fetch=stores.__getitem__)


def write_tournament(contest, *stages):
    """Draw the figures and write the tables of some stages of the tournament."""
    from daynight.study.paper import drawing
    from daynight.study.tournament import tournament
    from daynight.study.tournament.contestants import in_words

    rows_of = {"screen": lambda: contest.screened, "choose": lambda: contest.with_choices(contest.chosen_from)}
    for stage in stages:

        def draw(stage=stage):
            rows = rows_of[stage]() if stage in rows_of else reported_so_far(contest, stage)
            return drawing.contest(rows, contest.night_of, in_words), rows

        write_section(f"tournament_{stage}", draw, tournament.PRUNINGS, ".2f")


def reported_so_far(contest, stream):
    """Give the rows of a report of those policies whose runs are done, at each p."""
    from daynight.errors import DataError

    rows = []
    for p in contest.setups[stream].prunings:
        done = []
        for name in contest.reports(stream):
            with contextlib.suppress(DataError):
                contest.judged(stream, p, [name])
                done.append(name)
        rows += contest.judged(stream, p, done) if done else []
    if not rows:
        raise DataError("no p has its runs")
    return rows


def write_section_of_choice(contest):
    """Say what the tournament chose, which is to be what the library recommends."""
    import daynight as dn
    from daynight.storage import identity

    with unless_missing("tournament_chosen"):
        best, uniform = contest.ranked[0], contest.best_uniform
        policy = contest.finalists[best]
        if identity.describe(policy) != identity.describe(dn.recommended_policy()):
            raise RuntimeError(f"the tournament chose {policy!r}: make that of daynight/nights/schedules.py.")
        found = ", ".join(f"{name.removeprefix('uniform ')} at p = {p:g}" for p, name in sorted(uniform.items()))
        text = f"It chose ``{policy!r}`` ({best}), and for uniform cycles the N {found}.\n"
        (GENERATED / "tournament_chosen.rst").write_text(text)


def write_gains(contest):
    """Write what the policy that was chosen gains on test data, stream by stream, as far as its runs are done."""
    from daynight.errors import DataError
    from daynight.study.tournament import tournament

    table = []
    for stream in tournament.STREAMS:
        for p in contest.setups[stream].prunings:
            with contextlib.suppress(DataError):
                table.append({"stream": stream, "p": p, **gains_of(contest, stream, p)})
    with unless_missing("tournament_gains"):
        if not table:
            raise DataError("no stream has its runs")
        write_page("tournament_gains", table, tournament.PRUNINGS)


def gains_of(contest, stream, p):
    """Give errors, and what the policy that was chosen gains, on one stream at one p."""
    from daynight.study.tournament import tournament

    chosen, uniform = contest.ranked[0], contest.best_uniform[p]
    rows = {row["policy"]: row for row in contest.judged(stream, p, [chosen])}
    own = rows[chosen]
    return {
        "seeds": own["seeds"],
        "N = 1": f"{rows[tournament.ONCE]['error %']:.2f}",
        "chosen N": f"{rows[uniform]['error %']:.2f}",
        "chosen policy": f"{own['error %']:.2f}",
        "less than N = 1": less_than(own, tournament.ONCE),
        "less than chosen N": less_than(own, "best uniform"),
    }


def write_dips_of_nights(contest):
    """Write the clearest dips in single nights of uniform cycles."""
    from daynight.study.paper import open_questions
    from daynight.study.tournament import tournament

    rows = []
    with unless_missing("dips_of_nights"):
        for p in tournament.PRUNINGS:
            found = contest.held_out(p)
            values = {policy.n: found[name] for name, policy in contest.uniform.items()}
            rows.append({"p": p, "seeds": len(found[tournament.ONCE]), **open_questions.row_of(values)})
        write_page("dips_of_nights", rows, tournament.PRUNINGS)


def write_unequal(contest):
    """Write what cycles that lengthen or shorten gain over as many equal ones, as far as their runs are done."""
    from daynight.errors import DataError
    from daynight.nights.schedules import GeometricCycles
    from daynight.study.tournament import tournament

    rows = []
    with unless_missing("unequal"):
        unequal = {name: policy for name, policy in contest.finalists.items() if type(policy) is GeometricCycles}
        pairs = {name: f"uniform {policy.n}" for name, policy in unequal.items()}
        known = [(name, equal) for name, equal in pairs.items() if equal in contest.uniform]
        for (name, equal), p in itertools.product(known, tournament.PRUNINGS):
            with contextlib.suppress(DataError):
                found = {row["policy"]: row for row in contest.judged("mnist", p, [name], {"equal": equal})}
                rows.append({
                    "cycles": name, "p": p, "seeds": found[name]["seeds"],
                    "error %": f"{found[name]['error %']:.2f}", "of equal ones": f"{found[equal]['error %']:.2f}",
                    "less than equal": less_than(found[name], "equal"),
                })  # fmt: skip
        if not rows:
            raise DataError("no p has its runs")
        write_page("unequal", rows, tournament.PRUNINGS)


def write_runners_up(contest):
    """Write by how much the policy that was chosen leads over the next best, and over how many it leads, at each p."""
    from daynight.study.tournament import tournament
    from daynight.study.tournament.contestants import in_words

    rows = []
    with unless_missing("runners_up"):
        for p in tournament.PRUNINGS:
            own, rivals = leads(contest, p)
            first = rivals[0]
            alone, together = (sum(rival[low] > 0 for rival in rivals) for low in ("low", "corrected low"))
            rows.append({
                "p": p, "seeds": own["seeds"], "error, %": f"{own['error %']:.2f}",
                "runner-up": in_words(first["policy"]), "its error, %": f"{first['error %']:.2f}",
                "less than the runner-up": with_interval(*(first[name] for name in ("less", "low", "high"))),
                "ahead of": f"{alone} of {len(rivals)}", "corrected": f"{together} of {len(rivals)}",
            })  # fmt: skip
        write_page("runners_up", rows, tournament.PRUNINGS)


def leads(contest, p):
    """Give the row of the policy that was chosen, on MNIST at one p, and its leads over all others, the best first.

    Each lead has an interval of its own, and the lower end of one that holds together with those of all other rivals
    (Bonferroni's correction).
    """
    from daynight.study.statistics import CONFIDENCE, reach_of

    chosen = contest.ranked[0]
    others = [name for name in contest.reports("mnist") if name != chosen]
    rows = {row["policy"]: row for row in contest.judged("mnist", p, [chosen], {name: name for name in others})}
    own, found = rows.pop(chosen), []
    wider = reach_of(own["seeds"], 1.0, 1 - (1 - CONFIDENCE) / len(others)) / reach_of(own["seeds"], 1.0)
    for name, row in rows.items():
        less, low, high = (own[f"less than {name}{end}"] for end in ("", " low", " high"))
        found.append({"policy": name, "error %": row["error %"], "less": less, "low": low, "high": high,
                      "corrected low": less - wider * (less - low)})  # fmt: skip
    return own, sorted(found, key=lambda row: row["error %"])


def less_than(row, other):
    """Show by how much a policy has fewer errors than another, with its confidence interval."""
    return with_interval(*(row[f"less than {other}{end}"] for end in ("", " low", " high")))
