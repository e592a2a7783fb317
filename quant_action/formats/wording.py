"""How numbers and outcomes read, the same in every format. Numbers are rounded here and nowhere else."""

from __future__ import annotations

import unicodedata
from collections import Counter

from quant_action.formats.interface import Change, Report, Row
from quant_action.metrics.units import spell, spell_bare
from quant_action.records import Decision, Interval, Outcome

PERPLEXITY, KL, KL_P99, TOP1, ACCURACY = "perplexity", "kl", "kl_p99", "top1", "accuracy"
"""Ids of the metrics that have a column of their own."""

NOTHING = "–"
"""In a cell: this was not measured."""

SYMBOLS = {
    Outcome.PASS: "✅",
    Outcome.FAIL: "❌",
    Outcome.INCONCLUSIVE: "❔",
    Outcome.NOT_APPLICABLE: "➖",
    Outcome.NOT_EVALUATED: "⛔",
    Outcome.VOID: "🚫",
}

DECISIONS = {
    Decision.APPROVED: ("✅", "Approved"),
    Decision.REJECTED: ("❌", "Rejected"),
    Decision.INCONCLUSIVE: ("❔", "Inconclusive"),
    Decision.BROKEN: ("🚫", "Broken"),
}

CONSEQUENCES = {
    Decision.REJECTED: "no candidate may be released",
    Decision.INCONCLUSIVE: "more data is needed to decide",
    Decision.BROKEN: "the baseline does not pass against itself",
}
"""Of a decision without a winner."""

LEGEND = (
    "✅ the whole interval is within the limit · ❌ the whole interval is beyond it · ❔ it reaches across. "
    "× is a ratio to the baseline, pp are percentage points, n counts windows of text or task items."
)


def clean(text: str, limit: int = 1000) -> str:
    """One line of visible characters: control, format and bidi characters go, white space becomes single spaces; cut at `limit`."""
    visible = "".join(" " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char)[0] != "C")
    line = " ".join(visible.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def format_bytes(size: float) -> str:
    """Decimal units, as disks and the Hub count: `1.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} B" if unit == "B" else f"{size:.{1 if size < 99.95 else 0}f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def format_seconds(seconds: float) -> str:
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def format_number(value: float) -> str:
    """Three decimals near one, at least three significant digits below, thousands apart above."""
    size = abs(value)
    if size >= 1e7 or 0 < size < 1e-5:
        return f"{value:.2e}".replace("-", "−")
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 0.1 else 4 if size >= 0.01 else 5
    return f"{value:,.{decimals}f}".replace("-", "−") if value else "0"


def format_ratio(value: float) -> str:
    return f"×{format_number(value)}"


def format_percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def signed(value: float, decimals: int) -> str:
    """With a sign and a true minus; what rounds to nothing is ±0."""
    text = f"{value:+.{decimals}f}"
    return f"±{text[1:]}" if float(text) == 0 else text.replace("-", "−")


def format_points(change: float) -> str:
    """A change of a share, in percentage points: `−0.60 pp`."""
    return f"{signed(100 * change, 2)} pp"


def format_ratio_interval(interval: Interval | None) -> str:
    return f"[{format_number(interval.low)}, {format_number(interval.high)}]" if interval else ""


def format_points_interval(interval: Interval | None) -> str:
    return f"[{signed(100 * interval.low, 2)}, {signed(100 * interval.high, 2)}]" if interval else ""


def format_count(n: int, samples: str = "") -> str:
    """`n = 600 items`."""
    return f"n = {n:,} {samples}".rstrip()


def sentence(text: str) -> str:
    """With a full stop."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def outcome_words(outcome: Outcome) -> str:
    return f"{SYMBOLS[outcome]} {outcome.value}"


def headline(report: Report) -> str:
    """Symbol, decision and winner, for a heading; the winner's id is not escaped."""
    symbol, word = DECISIONS[report.decision]
    if report.winner:
        return f"{symbol} {word}: release {report.winner}"
    return f"{symbol} {word}: {CONSEQUENCES[report.decision]}"


def tally(report: Report) -> str:
    """`2 pass · 1 fail`."""
    counts = Counter(row.outcome for row in report.rows if row.outcome)
    return " · ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])


def level_words(report: Report) -> str:
    """`90% interval`, or the plain word where intervals differ in level or are absent."""
    levels = {change.interval.level for row in report.rows for change in row.changes.values() if change.interval}
    return f"{100 * levels.pop():.0f}% interval" if len(levels) == 1 else "interval"


# Cells: what each format's table says of a row ------------------------------------------------------------------------


def size_cell(row: Row) -> tuple[str, str]:
    """Size, and the ratio to the baseline."""
    if row.size is None:
        return NOTHING, ""
    return format_bytes(row.size), f"×{row.size_ratio:.2f}" if row.size_ratio is not None else ""


def bytes_cell(size: int | None) -> str:
    return NOTHING if size is None else format_bytes(size)


def seconds_cell(seconds: float | None) -> str:
    return NOTHING if seconds is None else format_seconds(seconds)


def metric_cell(row: Row, metric: str) -> str:
    measured = row.metrics.get(metric)
    return format_number(measured.value) if measured else NOTHING


def percent_cell(row: Row, metric: str) -> str:
    measured = row.metrics.get(metric)
    return format_percent(measured.value) if measured else NOTHING


def ratio_cell(row: Row) -> tuple[str, str]:
    """Perplexity over the baseline's, and its interval."""
    change = row.changes.get(PERPLEXITY)
    return (format_ratio(change.value), format_ratio_interval(change.interval)) if change else (NOTHING, "")


def points_cell(row: Row) -> tuple[str, str]:
    """Accuracy minus the baseline's, and its interval."""
    change = row.changes.get(ACCURACY)
    return (format_points(change.value), format_points_interval(change.interval)) if change else (NOTHING, "")


def counted(report: Report, metric: str) -> str:
    """What a column rests on, the same for every model of a run: `n = 24 windows`."""
    change = next((change for _, change in comparable(report, metric)), None)
    measured = report.baseline.metrics.get(metric)
    return format_count(change.n, change.samples) if change else format_count(measured.n) if measured else ""


def task_cell(row: Row, task: str) -> tuple[str, str, str]:
    """Accuracy of one task, its change with the interval, and n."""
    id = f"{ACCURACY}:{task}"
    change = row.changes.get(id)
    moved = f"{format_points(change.value)} {format_points_interval(change.interval)}".strip() if change else ""
    return percent_cell(row, id), moved, format_count(row.metrics[id].n) if id in row.metrics else ""


def runtime_line(row: Row, report: Report) -> str:
    """What became of a candidate's runtime check: which kernels ran it, and how near that is to what was scored."""
    check = row.runtime
    if report.runtime is None:
        return "not asked for (evaluation.runtime)"
    if check is None:
        failed = row.failure is not None and row.failure.stage == "runtime"
        return f"{SYMBOLS[Outcome.FAIL]} failed" if failed else f"{SYMBOLS[Outcome.NOT_EVALUATED]} not reached"
    kernels = ", ".join(f"{name} × {count}" for name, count in check.kernels.items())
    told = f", only when told backend={check.backend}: its own choice refuses this model on this GPU" if check.backend else ""
    return (
        f"{SYMBOLS[Outcome.PASS]} computes what was scored: {kernels} ({check.runtime}, {check.dtype}{told}); "
        f"KL {format_number(check.difference.kl)} nats over {check.tokens:,} tokens, rounding alone {format_number(check.rounding.kl)}; "
        f"any logit within {format_number(check.difference.largest)} of their spread, rounding alone "
        f"{format_number(check.rounding.largest)}"
    )


def change_words(change: Change) -> str:
    """A comparison with the baseline and its interval, whatever the metric: `×1.083 [1.071, 1.095]`."""
    value = spell(change.value, change.unit)
    ends = (change.interval.low, change.interval.high) if change.interval else ()
    return value + (f" [{', '.join(spell_bare(end, change.unit) for end in ends)}]" if ends else "")


def limit_of(row: Row, metric: str) -> float | None:
    """The limit against the baseline that a gate sets for `metric`; limits of two candidates may differ."""
    return next((check.limit for check in row.checks if check.metric == metric and check.vs == "baseline"), None)


def comparable(report: Report, metric: str) -> list[tuple[Row, Change]]:
    """The candidates that were compared with the baseline by `metric`."""
    return [(row, row.changes[metric]) for row in report.rows if metric in row.changes]
