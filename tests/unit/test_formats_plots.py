from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_action.formats.plots import STYLE, all_plots, pareto
from tests.golden.records import next_report, report

SVG = "{http://www.w3.org/2000/svg}"

COORDINATE = st.floats(min_value=0, max_value=10, allow_nan=False)


@pytest.fixture(scope="module")
def plots() -> list[tuple[str, str, str]]:
    return all_plots(report())


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=1, max_size=12))
def test_the_front_is_what_no_other_point_beats(points: list[tuple[float, float]]) -> None:
    beaten = {a for a in points for b in points if b != a and b[0] <= a[0] and b[1] <= a[1]}
    assert pareto(points) == sorted(set(points) - beaten)


def test_a_full_report_has_four_plots(plots: list[tuple[str, str, str]]) -> None:
    assert [title for title, _, _ in plots] == [
        "Size against quality",
        "Divergence, window by window",
        "Perplexity, × baseline",
        "Accuracy, change from baseline",
    ]


def test_a_release_adds_the_comparisons_with_it_and_the_trend() -> None:
    plots = {title: svg for title, _, svg in all_plots(next_report())}
    assert list(plots)[4:] == ["KL divergence, × last release", "Accuracy, change from last release", "KL divergence over releases"]
    assert all(f">{label}<" in plots["KL divergence over releases"] for label in ("v1.0.0", "v1.3.0", "0.0412", "0.0215"))
    assert all(">release<" in plots[title] for title in list(plots)[1:4])


def test_plots_are_svg_in_the_page_s_colours_and_name_every_candidate(plots: list[tuple[str, str, str]]) -> None:
    for _, _, svg in plots:
        root = ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
        texts = {"".join(text.itertext()).strip() for text in root.iter(f"{SVG}text")}
        assert {"gptq-w4-g128", "awq-w4-g128", "bnb-int8", "bnb-nf4", "gptq-w3-g128"} <= texts
        assert not any(colour in svg for colour in STYLE)
        assert "var(--pass)" in svg


def test_the_same_report_gives_the_same_bytes(plots: list[tuple[str, str, str]]) -> None:
    assert all_plots(report()) == plots


def test_nothing_is_drawn_of_nothing() -> None:
    assert all_plots(report().model_copy(update={"rows": (), "floor": None})) == []


def test_one_candidate_that_equals_the_baseline_can_be_drawn() -> None:
    run = report()
    row = run.rows[2]
    same = row.model_copy(
        update={
            "window_kl": (0.0,) * 24,
            "metrics": row.metrics | {"kl": row.metrics["kl"].model_copy(update={"value": 0.0})},
            "changes": {
                id: change.model_copy(update={"value": 1.0, "interval": None}) if id == "perplexity" else change
                for id, change in row.changes.items()
            },
            "checks": (),
        }
    )
    assert len(all_plots(run.model_copy(update={"rows": (same,)}))) == 3
    assert len(all_plots(run.model_copy(update={"rows": (same, same)}))) == 4


def test_mathematics_in_a_name_is_only_a_name() -> None:
    run = report()
    plots = all_plots(run.model_copy(update={"rows": tuple(row.model_copy(update={"id": "$\\frac{1<b>$"}) for row in run.rows)}))
    assert all("$\\frac{1&lt;b&gt;$" in svg for _, _, svg in plots)
