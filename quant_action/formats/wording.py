"""How numbers and outcomes read, the same in every format. Numbers are rounded here and nowhere else."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from quant_action.formats.interface import Change, OverrideNote, Regressions, Report, Row
from quant_action.metrics.units import spell, spell_bare
from quant_action.records import Check, Decision, Interval, Outcome

PERPLEXITY, KL, KL_P99, TOP1, ACCURACY, FLIPS = "perplexity", "kl", "kl_p99", "top1", "accuracy", "flips"
"""Ids of the metrics that have a column of their own."""

NOTHING = "–"
"""In a cell: this was not measured."""

UNSTABLE = "⚠ "
"""Before a figure: what was measured with it was disturbed."""

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

NO_WINNER = {
    Decision.APPROVED: "every required candidate passes",
    Decision.REJECTED: "no candidate may be released",
    Decision.INCONCLUSIVE: "more data is needed to decide",
    Decision.BROKEN: "the measurement is wrong, and nothing is decided",
}

HASHED = "The spec keeps samples out of results (`samples: hash-only`): what stands here are sha256 digests."

SPARKS = "▁▂▃▄▅▆▇█"

LEGEND = (
    "✅ the whole interval is within the limit · ❌ the whole interval is beyond it · ❔ it reaches across. "
    "× is a ratio to the baseline, pp are percentage points, n counts windows of text or task items."
)


def clean(text: str, limit: int = 1000) -> str:
    """One line of visible characters: control, format and bidi characters go, white space becomes single spaces; cut at `limit`."""
    text = text[: 4 * limit]  # nobody's megabyte is read through for the sake of a line
    if not text.isprintable():
        text = "".join(" " if char.isspace() else char for char in text if char.isspace() or unicodedata.category(char)[0] != "C")
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def sample(text: str) -> str:
    """What was asked or answered, on one line, so that no line of it can pass for one of the report's; at most 400 characters."""
    return clean(" ⏎ ".join(text.strip().splitlines()), 400) or "(empty)"


def isolate(text: str) -> str:
    """Text of right-to-left letters in isolation (Unicode Annex 9), so that it cannot reorder what stands beside it."""
    return (
        f"\u2068{text}\u2069" if not text.isascii() and any(unicodedata.bidirectional(char) in ("R", "AL", "AN") for char in text) else text
    )


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
    return f"{symbol} {word}: {NO_WINNER[report.decision]}"


def tally(report: Report) -> str:
    """`2 pass · 1 fail`."""
    counts = Counter(row.outcome for row in report.rows if row.outcome)
    return " · ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])


def level_words(report: Report) -> str:
    """`90% interval`, or the plain word where intervals differ in level or are absent."""
    levels = {change.interval.level for row in report.rows for change in row.changes.values() if change.interval}
    return f"{100 * levels.pop():.0f}% interval" if len(levels) == 1 else "interval"


def place(where: str) -> str:
    """`quant.yml:17`, without the column."""
    return re.sub(r"(:\d+):\d+$", r"\1", where)


def link_of(where: str, report: Report) -> str | None:
    """Address of a line of the spec, where the report knows that of the file."""
    line = re.search(r":(\d+)(?::\d+)?$", where)
    return f"{report.links}#L{line[1]}" if report.links and line else None


def sparkline(values: Sequence[float]) -> str:
    """One block per value, its height in eighths of the largest: a fall by half looks like one."""
    top = max(values, default=0)
    return "".join(SPARKS[max(math.ceil(value / top * len(SPARKS)) - 1, 0) if top > 0 else 0] for value in values)


# A model's numbers ------------------------------------------------------------------------------------------------------


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


def change_value(change: Change) -> str:
    """`×1.083`, `−0.68 pp`, `0.0311 nat`; marked where it is not to be relied on."""
    mark = UNSTABLE if change.unstable else ""
    match change.unit:
        case "x":
            return mark + format_ratio(change.value)
        case "pp":
            return mark + format_points(change.value)
        case _:
            return mark + spell(change.value, change.unit)


def change_interval(change: Change) -> str:
    """`[1.071, 1.095]`; empty for what is known exactly."""
    return format_interval(change.interval, change.unit) if change.interval else ""


def format_interval(interval: Interval, unit: str) -> str:
    low, high = interval.low, interval.high
    match unit:
        case "x":
            return f"[{format_number(low)}, {format_number(high)}]"
        case "pp":
            return f"[{signed(100 * low, 2)}, {signed(100 * high, 2)}]"
        case _:
            return f"[{spell_bare(low, unit)}, {spell_bare(high, unit)}]"


def change_words(change: Change) -> str:
    """A comparison and its interval, whatever the metric: `×1.083 [1.071, 1.095]`."""
    return f"{change_value(change)} {change_interval(change)}".rstrip()


def change_cell(change: Change | None) -> tuple[str, str]:
    """Value and interval."""
    return (change_value(change), change_interval(change)) if change else (NOTHING, "")


# What a run's columns rest on -------------------------------------------------------------------------------------------


def counted(report: Report, metric: str) -> str:
    """`n = 24 windows`, where it is the same for every candidate; a candidate that was stopped at an early look has fewer items."""
    counts = {(change.n, change.samples) for row in report.rows if (change := row.changes.get(metric))}
    if len(counts) == 1:
        return format_count(*counts.pop())
    measured = report.baseline.metrics.get(metric)
    return format_count(measured.n) if measured and not counts else ""


def own_count(report: Report, metric: str, change: Change | None) -> str:
    """`n = 250` of one cell, where its column has no count that holds for all."""
    return f"n = {change.n:,}" if change and not counted(report, metric) else ""


def gate_against(check: Check) -> str:
    match check.vs:
        case "baseline":
            return "baseline"
        case "release":
            return "last release"
        case None:
            return NOTHING


def gate_outcome(check: Check) -> str:
    """`❌ fail, overridden`, `❌ fail, only warns`."""
    only_warns = check.level == "warn" and check.outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE)
    return outcome_words(check.outcome) + (", overridden" if check.override else ", only warns" if only_warns else "")


def first_release(report: Report) -> bool:
    """Whether gates wait for a release that there is not yet."""
    return any(check.outcome is Outcome.NOT_APPLICABLE and check.vs == "release" for row in report.rows for check in row.checks)


def floor_line(report: Report) -> str:
    """What the baseline differs by from itself; empty where it was not measured twice."""
    if not report.floor:
        return ""
    metrics, changes = report.floor.metrics, report.floor.changes
    parts = [
        f"KL {format_number(metrics[KL].value)} nats" if KL in metrics else "",
        f"same top token {format_percent(metrics[TOP1].value)}" if TOP1 in metrics else "",
        f"perplexity {change_value(changes[PERPLEXITY])}" if PERPLEXITY in changes else "",
        f"accuracy {change_value(changes[ACCURACY])}" if ACCURACY in changes else "",
        f"flips {format_percent(changes[FLIPS].value)}" if FLIPS in changes else "",
    ]
    return ", ".join(filter(None, parts))


def trend_line(report: Report) -> str:
    """`▇▆▂ 0.0410 (v0.9) → 0.0214 (gptq-w4)`; empty for fewer than two points."""
    if len(report.trend) < 2:
        return ""
    (first, before), (last, after) = report.trend[0], report.trend[-1]
    spark = sparkline([value for _, value in report.trend])
    return f"{spark} {format_number(before)} ({isolate(clean(first, 40))}) → {format_number(after)} ({isolate(clean(last, 40))})"


def override_line(note: OverrideNote) -> str:
    """`gate accuracy of bnb-nf4, by Ana, saying "reason"`, and what it does in this run."""
    said = note.override
    who, why = isolate(clean(said.by, 80)), isolate(clean(said.reason, 300))
    gate, candidate = isolate(clean(said.gate, 60)), isolate(clean(said.candidate, 60))
    return f"gate {gate} of {candidate}, artifact {clean(said.artifact, 12)}, by {who}, saying “{why}” ({override_effect(note)})"


def override_effect(note: OverrideNote) -> str:
    """`lets pass: accuracy, measured fail`."""
    passed = ", ".join(f"{isolate(clean(check.metric, 60))}, measured {check.outcome}" for check in note.checks[:5])
    return f"lets pass: {passed}" if passed else "changes nothing in this run"


def regressions_line(found: Regressions) -> str:
    """`71 of 2,000 items right → wrong, 55 wrong → right; answered in other words: 12`."""
    rewritten = f"; answered in other words: {found.rewritten:,}" if found.rewritten else ""
    return f"{found.lost:,} of {found.n:,} items right → wrong, {found.gained:,} wrong → right{rewritten}"


def part_words(metric: str) -> str:
    """`accuracy:tickets` -> `tickets`, `accuracy@ja` -> `slice ja`, `kl@ja` -> `slice ja of the text, kl`."""
    if metric.startswith(f"{ACCURACY}:"):
        return metric.removeprefix(f"{ACCURACY}:")
    name, _, part = metric.partition("@")
    return f"slice {part}" if name == ACCURACY else f"slice {part} of the text, {name}"


def part_cell(row: Row, metric: str) -> str:
    return percent_cell(row, metric) if metric.startswith(ACCURACY) else metric_cell(row, metric)


def part_sign(row: Row, metric: str) -> str:
    """Of a gate on this task or slice; empty without one."""
    check = next((check for check in row.checks if check.metric == metric), None)
    return f"{SYMBOLS[check.outcome]} " if check and check.outcome is not Outcome.NOT_APPLICABLE else ""


def tasks_of(found: Sequence[Regressions]) -> list[str]:
    """Tasks with regressed items."""
    return list(dict.fromkeys(item.task for regressions in found for item in regressions.worst))


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
