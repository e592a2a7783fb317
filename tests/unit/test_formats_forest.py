from __future__ import annotations

from quant_action.formats.forest import COLUMNS, accuracy_forest, axis_ends, perplexity_forest
from quant_action.formats.wording import comparable
from tests.golden.records import report


def test_every_compared_candidate_has_one_line_of_one_width() -> None:
    title, *lines = perplexity_forest(report()).splitlines()
    assert title == "perplexity, × baseline (90% interval; │ baseline, ╎ limit)"
    assert [line.split()[0] for line in lines] == ["gptq-w4-g128", "awq-w4-g128", "bnb-int8", "bnb-nf4", "gptq-w3-g128"]
    assert len({line.index("×") for line in lines}) == 1


def test_what_lies_beyond_the_axis_points_there() -> None:
    perplexity, accuracy = perplexity_forest(report()).splitlines(), accuracy_forest(report()).splitlines()
    assert "▶" in perplexity[-1]
    assert "◀" in accuracy[-1]
    assert "▶" not in "".join(perplexity[:-1])


def test_the_axis_shows_the_limit_and_no_more_than_twice_its_distance() -> None:
    low, high = axis_ends(comparable(report(), "perplexity"), "perplexity", 1.0)
    assert low < 1.0
    assert 1.05 < 1.10 < high < 1.11


def test_the_point_lies_between_baseline_and_limit_where_the_value_does() -> None:
    line = perplexity_forest(report()).splitlines()[1]
    assert line.index("│") < line.index("●") < line.index("╎") < line.index("×")
    assert line.index("×") > COLUMNS


def test_there_is_no_plot_of_nothing() -> None:
    empty = report().model_copy(update={"rows": ()})
    assert perplexity_forest(empty) == accuracy_forest(empty) == ""


def test_an_id_can_neither_close_a_fence_nor_shift_a_column() -> None:
    run = report()
    hostile = run.model_copy(update={"rows": (run.rows[0].model_copy(update={"id": "```\n@all"}), *run.rows[1:])})
    assert perplexity_forest(hostile).splitlines()[1].startswith("?????all")
