"""What a reviewer unfolds: gates, tasks, every comparison, cost, method."""

from __future__ import annotations

from collections.abc import Mapping

from quant_action.formats import speed as speed_words
from quant_action.formats import wording
from quant_action.formats.interface import Change, Report, Row
from quant_action.formats.markdown.inert import NAME, PLACE, TEXT, code, escape, place
from quant_action.formats.markdown.shape import Shape
from quant_action.formats.markdown.table import grid
from quant_action.records import Outcome, Versus

MOST_COLUMNS = 8
"""Candidates side by side."""


def fold(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def gates(report: Report, shape: Shape) -> str:
    rows = [row for row in (*report.rows[: shape.candidates], report.floor) if row]
    lines = [
        [
            escape(row.id, NAME),
            code(check.gate),
            wording.gate_outcome(check),
            wording.gate_against(check),
            escape(check.reason),
            f"{check.n:,}" if check.n is not None else wording.NOTHING,
            place(check.where, report) if check.where else wording.NOTHING,
        ]
        for row in rows
        for check in row.checks
        if not (check.vs == "release" and check.outcome is Outcome.NOT_APPLICABLE)  # the heading says so, once
    ]
    if not lines:
        return ""
    counts = {outcome: sum(check.outcome is outcome for row in report.rows for check in row.checks) for outcome in Outcome}
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    return fold(f"Gates: {summary}", grid(["candidate", "gate", "outcome", "against", "why", "n", "where"], lines, left=7))


def runtimes(report: Report, shape: Shape) -> str:
    if report.runtime is None:
        return ""
    shown = report.rows[: shape.candidates]
    lines = [f"- **{escape(row.id, NAME)}**: {escape(wording.runtime_line(row, report))}" for row in shown]
    passed = sum(row.runtime is not None for row in report.rows)
    return fold(f"Runtime check: {passed} of {len(report.rows)} compute what was scored", "\n".join(lines))


def speed(report: Report, shape: Shape) -> str:
    shown = report.rows[: shape.candidates]
    told = [f"- **{escape(id, NAME)}**: {escape(note, 2 * TEXT)}" for id, note in speed_words.notes(shown)]
    if not told:
        return ""
    lines = [[escape(cell, NAME) for cell in line] for line in speed_words.lines(shown)]
    table = [grid(speed_words.HEADER, lines, left=speed_words.LEFT)] if lines else []
    return fold(f"Speed: {speed_words.SUMMARY}", "\n\n".join([*table, "\n".join(told)]))


def parts(report: Report) -> str:
    """What is measured on each task and slice; the sign is that of a gate on it."""
    rows = [row for row in report.rows if row.changes][:MOST_COLUMNS]
    if len(report.parts) < 2:
        return ""
    vs: Versus = "release" if report.release else "baseline"
    references = [row for row in (report.baseline, report.release) if row]
    lines = [
        [
            escape(wording.part_words(part), NAME),
            f"{report.baseline.metrics[part].n:,}",
            *(wording.part_cell(row, part) for row in references),
            *(_part(row, part, vs) for row in rows),
        ]
        for part in report.parts
    ]
    header = ["task or slice", "n", *(row.id for row in references), *(f"{escape(row.id, NAME)}, change" for row in rows)]
    against = "last release" if report.release else "baseline"
    return fold(f"Per task and slice: change from the {against}, {wording.level_words(report)}", grid(header, lines, left=1))


def _part(row: Row, part: str, vs: Versus) -> str:
    change = row.compared(vs).get(part)
    return wording.part_sign(row, part) + (escape(wording.change_words(change)) if change else wording.NOTHING)


def comparisons_tables(report: Report) -> str:
    """Every metric that knows how to compare, those without a column of their own among them."""
    rows = [row for row in (*report.rows, report.release, report.floor) if row and row.changes]
    tables = [_comparisons("Every comparison with the baseline", {row.id: row.changes for row in rows[:MOST_COLUMNS]})]
    released = {row.id: row.release_changes for row in report.rows[:MOST_COLUMNS] if row.release_changes}
    tables.append(_comparisons("Every comparison with the last release", released))
    return "\n\n".join(filter(None, tables))


def _comparisons(title: str, columns: Mapping[str, Mapping[str, Change]]) -> str:
    names = {id: change.name for changes in columns.values() for id, change in changes.items()}
    lines = [
        [
            escape(name, NAME),
            *(escape(wording.change_words(changes[id])) if id in changes else wording.NOTHING for changes in columns.values()),
        ]
        for id, name in names.items()
    ]
    return fold(title, grid(["metric", *(escape(id, NAME) for id in columns)], lines, left=1)) if lines else ""


def cost(report: Report, shape: Shape) -> str:
    lines = [
        [
            escape(row.id, NAME),
            wording.seconds_cell(row.quantize_seconds),
            wording.bytes_cell(row.quantize_memory),
            wording.bytes_cell(row.evaluate_memory),
        ]
        for row in (report.baseline, *report.rows[: shape.candidates])
    ]
    header = ["candidate", "time to quantize", "peak memory while quantizing", "peak memory while evaluating"]
    return fold("Time and memory", grid(header, lines, left=1))


def method(report: Report) -> str:
    facts = [f"- **{escape(fact.label, NAME)}**: {code(fact.text, 2 * PLACE)}" for fact in report.method]
    floor = wording.floor_line(report)
    noise = [f"- **Noise floor**, the baseline again in other batches: {code(floor, PLACE)}"] if floor else []
    versions = f"- **Versions**: {code(', '.join(report.versions), 2 * PLACE)}"
    return fold("Method, noise floor, looks, versions and digests", "\n".join([*facts, *noise, versions]))
