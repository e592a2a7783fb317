"""The plots of the HTML report: inline SVG that takes its colours from the page, so that it fits a light and a dark one.

Deterministic (no date, salted ids, no interactive backend): the same report gives the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from quant_action.formats import wording
from quant_action.formats.comparisons import REFERENCE_NAMES, Comparison, comparisons
from quant_action.formats.interface import Report
from quant_action.records import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE, PASS, FAIL, UNDECIDED = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"

STYLE = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PASS: "--pass", FAIL: "--fail", UNDECIDED: "--undecided"}
"""Stand-in colour -> the property of the page that it becomes."""

MARKERS = {Outcome.PASS: ("o", PASS), Outcome.FAIL: ("X", FAIL), Outcome.INCONCLUSIVE: ("D", UNDECIDED)}
"""A shape for each outcome, so that colour never speaks alone."""

WIDTH, SQUARE = 6.4, 3.7
"""Inches, and the height of a plot of two axes; the page scales both."""

SMALLEST_KL = 1e-6
"""Nats: what lies below is drawn here, since a logarithmic axis has no zero."""

MOST_POINTS = 300
"""Windows drawn one by one; of more, every k-th is."""


def all_plots(report: Report) -> list[tuple[str, str, str]]:
    """Title, caption and SVG of every plot that the report has values for."""
    plots = (
        (
            "Size against quality",
            "Down and to the left is better. The line joins the candidates that no other beats in both. Logarithmic axis.",
            size_against_quality(report),
        ),
        (
            "Divergence, window by window",
            "Each dot is one window of the text, the box spans its middle half, the bar is the median. Logarithmic axis.",
            window_divergence(report),
        ),
        *((comparison.title, _caption(comparison, report), _intervals(comparison)) for comparison in comparisons(report)),
        ("KL divergence over releases", "Mean over the text, nats. The last point is this run's. From zero.", trend(report)),
    )
    return [(title[0].upper() + title[1:], caption, svg) for title, caption, svg in plots if svg]


def _caption(comparison: Comparison, report: Report) -> str:
    against = "baseline" if comparison.vs == "baseline" else "last release"
    dots = " Dots: the last release." if comparison.release is not None else ""
    return f"Point and {wording.level_words(report)}. Solid line: {against}. Dashes: the gate's limit.{dots}"


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points, by rising x, that no other point beats in both coordinates; less is better."""
    front: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def size_against_quality(report: Report) -> str:
    """Mean KL divergence over the size of the weights; empty when fewer than two candidates have both."""
    shown = [
        (row, row.size, max(row.metrics[wording.KL].value, SMALLEST_KL)) for row in report.rows if row.size and wording.KL in row.metrics
    ]
    if len(shown) < 2:
        return ""

    def draw(axes: Axes) -> None:
        axes.set_yscale("log")
        axes.margins(x=0.16, y=0.12)
        front = pareto([(size, kl) for _, size, kl in shown])
        axes.plot(*zip(*front, strict=True), color=MUTED, linewidth=1, dashes=(3, 3), zorder=1)
        for row, size, kl in shown:
            _mark(axes, row.outcome, size, kl, won=row.id == report.winner)
        axes.xaxis.set_major_formatter(lambda size, _: wording.format_bytes(size))
        axes.locator_params(axis="x", nbins=6)
        _plain_log(axes.yaxis)
        axes.grid(color=RULE, linewidth=0.6)
        whole = f" (baseline: {wording.format_bytes(report.baseline.size)})" if report.baseline.size else ""
        axes.set_xlabel(f"size of weights{whole}")
        axes.set_ylabel("mean KL divergence, nats")
        _label_points(axes, [(row.id, size, kl) for row, size, kl in shown])

    return _svg("size", "Size of the weights against mean KL divergence, one point per candidate", SQUARE, draw)


def window_divergence(report: Report) -> str:
    """Per candidate, release and floor: the mean KL divergence of each window of the text."""
    shown = [row for row in (*report.rows, report.release, report.floor) if row and row.window_kl]
    if not shown:
        return ""

    def draw(axes: Axes) -> None:
        axes.set_xscale("log")
        for line, row in enumerate(shown):
            colour = _marker(row.outcome)[1]
            values = [max(value, SMALLEST_KL) for value in row.window_kl]
            points = values[:: max(1, -(-len(values) // MOST_POINTS))]
            heights = [line + 0.5 * ((index * 0.618) % 1 - 0.5) for index in range(len(points))]
            axes.scatter(points, heights, s=9, color=colour, alpha=0.45, linewidths=0, zorder=2)
            box = {"color": INK, "linewidth": 1.1}
            axes.boxplot(
                [values],
                positions=[line],
                orientation="horizontal",
                widths=0.62,
                showfliers=False,
                showcaps=False,
                whis=0,
                manage_ticks=False,
                boxprops=box,
                medianprops=box | {"linewidth": 2.2},
                whiskerprops={"linewidth": 0},
            )
        _named_lines(axes, [REFERENCE_NAMES.get(row.id, row.id) if row.outcome is None else row.id for row in shown])
        _plain_log(axes.xaxis)
        axes.grid(axis="x", color=RULE, linewidth=0.6)
        axes.set_xlabel("mean KL divergence of a window, nats")

    return _svg("windows", "KL divergence of each window of the text, per candidate", max(_height(shown), SQUARE), draw)


def _intervals(comparison: Comparison) -> str:
    low, high, unit = comparison.low, comparison.high, comparison.lines[0].change.unit

    def tick(value: float) -> str:
        return f"×{value:g}" if unit == "x" else f"{wording.signed(100 * value, 1)} pp"

    def draw(axes: Axes) -> None:
        axes.axvline(comparison.reference, color=INK, linewidth=1, zorder=1)
        if comparison.release is not None and low <= comparison.release <= high:
            axes.axvline(comparison.release, color=MUTED, linewidth=1.2, linestyle=":", zorder=1)
        for height, line in enumerate(comparison.lines):
            change, colour = line.change, _marker(line.outcome)[1]
            if line.limit is not None:
                axes.plot([line.limit] * 2, [height - 0.5, height + 0.5], color=FAIL, linewidth=1.3, dashes=(3, 2), zorder=1)
            if change.interval:
                ends = [max(change.interval.low, low), min(change.interval.high, high)]
                axes.plot(ends, [height, height], color=colour, linewidth=2.2, zorder=2)
            if low <= change.value <= high:
                _mark(axes, line.outcome, change.value, height, won=line.won)
            else:  # beyond the axis: an arrow at its end
                end, arrow = (high, ">") if change.value > high else (low, "<")
                axes.plot([end], [height], marker=arrow, color=colour, markersize=7, clip_on=False, zorder=3)
            words = f"{wording.change_words(change)}\nn = {change.n:,}"
            axes.annotate(words, (1.03, height), xycoords=("axes fraction", "data"), va="center", color=INK, annotation_clip=False)
        axes.set_xlim(low, high)
        _named_lines(axes, [line.name for line in comparison.lines])
        axes.xaxis.set_major_formatter(lambda value, _: tick(round(value, 9)))
        axes.locator_params(axis="x", nbins=4)
        axes.grid(axis="x", color=RULE, linewidth=0.6)

    name = f"{comparison.metric}-{comparison.vs}"
    label = f"{comparison.metric} of each candidate against the {comparison.vs}, with intervals and limits"
    return _svg(name, label, _height(comparison.lines), draw)


def trend(report: Report) -> str:
    """Mean KL divergence of the releases so far and of this run's candidate; empty for fewer than two points."""
    if len(report.trend) < 2:
        return ""

    def draw(axes: Axes) -> None:
        values = [value for _, value in report.trend]
        axes.plot(range(len(values)), values, color=MUTED, linewidth=1.4, marker="o", markersize=5)
        axes.plot([len(values) - 1], values[-1:], color=INK, marker="o", markersize=8)
        for x, value in ((0, values[0]), (len(values) - 1, values[-1])):
            axes.annotate(wording.format_number(value), (x, value), xytext=(0, 9), textcoords="offset points", ha="center", color=INK)
        axes.set_ylim(0, 1.25 * max(values) or 1)
        axes.margins(x=0.12)
        axes.set_xticks(range(len(values)), [wording.clean(label, 16) for label, _ in report.trend])
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_ylabel("mean KL divergence, nats")

    return _svg("trend", "Mean KL divergence of each release and of this run", SQUARE, draw)


# Parts ----------------------------------------------------------------------------------------------------------------


def _marker(outcome: Outcome | None) -> tuple[str, str]:
    """Shape and colour."""
    return MARKERS.get(outcome, ("o", MUTED)) if outcome else ("o", MUTED)


def _mark(axes: Axes, outcome: Outcome | None, x: float, y: float, *, won: bool) -> None:
    marker, colour = _marker(outcome)
    size = 13 if won else 7
    axes.plot([x], [y], marker="*" if won else marker, markersize=size, color=colour, markeredgewidth=0, linestyle="none", zorder=3)


def _named_lines(axes: Axes, names: Sequence[str]) -> None:
    """One line per model, the first on top."""
    axes.set_yticks(range(len(names)), [wording.clean(name, 40) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, pad=9, labelcolor=INK)
    axes.spines["left"].set_visible(False)


def _plain_log(axis: Any) -> None:
    """Numbers as people write them on a logarithmic axis, whether it spans less than a decade or many; drawn on what is there already."""
    from matplotlib.ticker import LogLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 50 * low else (1.0,), numticks=8))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def _label_points(axes: Axes, points: Sequence[tuple[str, float, float]]) -> None:
    """Names beside points, on the roomier side, pushed apart where they would overlap."""
    figure = axes.get_figure(root=True)
    assert figure, "the axes are those of a figure"
    figure.draw_without_rendering()  # fixes the scale, so that positions can be compared in pixels
    left, right = axes.get_xlim()
    line = 13 * figure.dpi / 72
    placed: list[tuple[float, bool]] = []
    for id, x, y in sorted(points, key=lambda point: point[2]):
        beside = x < left + 0.6 * (right - left)
        height = axes.transData.transform((x, y))[1]
        wanted = height
        for taken in sorted(other for other, side in placed if side == beside):
            if abs(taken - wanted) < line:
                wanted = taken + line
        placed.append((wanted, beside))
        axes.annotate(
            wording.clean(id, 40),
            (x, y),
            xytext=(9 if beside else -9, (wanted - height) * 72 / figure.dpi),
            textcoords="offset points",
            ha="left" if beside else "right",
            va="center",
            color=INK,
        )


def _height(rows: Sequence[object]) -> float:
    return 0.9 + 0.42 * len(rows)


def _svg(name: str, label: str, height: float, draw: Callable[[Axes], None]) -> str:
    """Draw on axes of the page's style and return an `<svg>` element for use inside HTML."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {
        "svg.hashsalt": f"quant_action {name}",
        "svg.fonttype": "none",
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.edgecolor": RULE,
        "axes.labelcolor": MUTED,
        "xtick.color": RULE,
        "ytick.color": RULE,
        "xtick.labelcolor": MUTED,
        "ytick.labelcolor": MUTED,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context():
        mpl.rcdefaults()  # a matplotlibrc in the folder that is being judged has no say
        mpl.rcParams.update(settings)
        figure: Figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(file.getvalue(), label)


def _inline(document: str, label: str) -> str:
    """The `<svg>` element alone, in the page's colours and at its width, without metadata and without ids that nothing refers to."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in used else "", svg)
    for colour, name in STYLE.items():
        svg = svg.replace(colour, f"var({name})")
    svg = re.sub(
        r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>',
        rf'<svg viewBox="\1" role="img" aria-label="{label}" xmlns:xlink="http://www.w3.org/1999/xlink">',
        svg,
    )
    return svg.strip()
