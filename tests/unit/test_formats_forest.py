from __future__ import annotations

from quant_action.formats.comparisons import Comparison, comparisons
from quant_action.formats.forest import COLUMNS, forest
from quant_action.formats.interface import Report
from tests.golden.records import next_report, report


def plot(run: Report, index: int, most: int = 40) -> list[str]:
    return forest(comparisons(run)[index], run, most).splitlines()


def comparison(run: Report, title: str) -> Comparison:
    return next(found for found in comparisons(run) if found.title == title)


def test_every_compared_candidate_and_the_floor_have_one_line_of_one_width() -> None:
    title, *lines, _ = plot(report(), 0)
    assert title == "perplexity, × baseline (90% interval; │ baseline, ╎ limit)"
    assert [line.split("  ")[0] for line in lines] == ["gptq-w4-g128", "awq-w4-g128", "bnb-int8", "bnb-nf4", "gptq-w3-g128", "A/A floor"]
    assert len({line.index("×") for line in lines}) == 1


def test_what_lies_beyond_the_axis_points_there() -> None:
    perplexity, accuracy = plot(report(), 0), plot(report(), 1)
    assert "▶" in perplexity[5]
    assert "◀" in accuracy[5]
    assert "▶" not in "".join(perplexity[:5])


def test_the_axis_shows_the_limit_and_no_more_than_twice_its_distance() -> None:
    found = comparison(report(), "perplexity, × baseline")
    assert found.low < 1.0
    assert 1.05 < 1.10 < found.high < 1.11


def test_the_point_lies_between_baseline_and_limit_where_the_value_does() -> None:
    line = plot(report(), 0)[1]
    assert line.index("│") < line.index("●") < line.index("╎") < line.index("×")
    assert line.index("×") > COLUMNS


def test_the_last_line_says_what_the_marks_stand_for_under_them() -> None:
    lines = plot(report(), 0)
    assert lines[-1].split() == ["×1.000", "×1.050"]
    assert lines[-1].index("×1.050") <= lines[1].index("╎") < lines[-1].index("×1.050") + len("×1.050")
    assert lines[-1].index("×1.000") <= lines[1].index("│") < lines[-1].index("×1.000") + len("×1.000")


def test_a_release_is_a_line_a_mark_on_the_others_and_a_reference_of_its_own() -> None:
    run = next_report()
    assert [(found.title, found.vs) for found in comparisons(run)] == [
        ("perplexity, × baseline", "baseline"),
        ("accuracy, change from baseline", "baseline"),
        ("KL divergence, × last release", "release"),
        ("accuracy, change from last release", "release"),
    ]
    title, *lines, _ = plot(run, 0)
    assert title == "perplexity, × baseline (90% interval; │ baseline, ╎ limit, ┆ release)"
    assert [line.split("  ")[0] for line in lines[-2:]] == ["release", "A/A floor"]
    assert lines[2].index("┆") == lines[-2].index("●")
    assert plot(run, 2)[0] == "KL divergence, × last release (90% interval; │ last release, ╎ limit)"


def test_fewer_candidates_are_drawn_where_there_is_less_room_but_never_fewer_references() -> None:
    lines = plot(next_report(), 0, most=1)
    assert [line.split("  ")[0] for line in lines[1:-1]] == ["gptq-w4-g128", "release", "A/A floor"]


def test_there_is_no_plot_of_nothing() -> None:
    assert comparisons(report().model_copy(update={"rows": ()})) == []


def test_an_id_can_neither_close_a_fence_nor_shift_a_column() -> None:
    run = report()
    hostile = run.model_copy(update={"rows": (run.rows[0].model_copy(update={"id": "```\n@all"}), *run.rows[1:])})
    assert plot(hostile, 0)[1].startswith("?????all")
