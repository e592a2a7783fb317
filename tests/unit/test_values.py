from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_action.errors import IntegrityError
from quant_action.values import Values, Windows


def windows(count: int = 3, *, slices: tuple[str, ...] | None = None) -> Windows:
    rng = np.random.default_rng(0)
    return Windows(
        nll=rng.random((count, 4)),
        kl=rng.random((count, 4)),
        top1=rng.random((count, 4)) > 0.5,
        bytes=np.arange(count, dtype=np.int64),
        slices=slices or ("",) * count,
    )


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    values = Values(windows=windows(slices=("ja", "", "日本 語")), long=windows(2), items=({"task": "t", "item": "1", "correct": True},))
    values.save(tmp_path)

    found = Values.load(tmp_path)

    assert found.items == values.items
    for mine, theirs in ((found.windows, values.windows), (found.long, values.long)):
        assert mine is not None
        assert theirs is not None
        assert mine.slices == theirs.slices
        for name in ("nll", "kl", "top1", "bytes"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
            assert getattr(mine, name).dtype == getattr(theirs, name).dtype


@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=30))
def test_whatever_a_model_writes_stays_on_its_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("values")
    items = ({"task": "t", "item": "1", "correct": True, "output": f"{text}\u2028\x85\v"}, {"task": "t", "item": "2", "correct": False})
    Values(windows=None, items=items).save(folder)
    assert Values.load(folder) == Values(windows=None, items=items)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "windows.npz").write_bytes(b""),
        lambda folder: (folder / "windows.npz").write_bytes(b"PK\x03\x04 and no more"),
        lambda folder: (folder / "windows.npz").write_bytes((folder / "windows.npz").read_bytes()[:-90]),
        lambda folder: np.savez(folder / "windows.npz", nll=np.ones((2, 2))),
        lambda folder: (folder / "items.jsonl").write_text("{"),
        lambda folder: (folder / "items.jsonl").unlink(),
    ],
    ids=["empty", "a stub", "cut", "of an older version", "items cut", "no items"],
)
def test_values_that_are_not_readable_are_an_integrity_error(tmp_path: Path, damage: Any) -> None:
    Values(windows=windows(), items=()).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(IntegrityError, match="not readable"):
        Values.load(tmp_path)


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    Values(windows=windows(3, slices=("a",) * 2), items=()).save(tmp_path)
    with pytest.raises(IntegrityError, match=r"arrays in windows\.npz do not belong together"):
        Values.load(tmp_path)


def test_a_slice_has_its_own_windows_and_items() -> None:
    items = tuple({"task": "t", "item": str(n), "correct": n < 2, **({"slice": "ja"} if n % 2 else {})} for n in range(4))
    values = Values(windows=windows(4, slices=("ja", "en", "ja", "")), items=items)
    assert values.windows is not None
    japanese = values.windows.of_slice("ja")
    assert japanese is not None
    np.testing.assert_array_equal(japanese.nll, values.windows.nll[[0, 2]])
    assert japanese.bytes.tolist() == [0, 2]
    assert values.windows.of_slice("de") is None
    assert values.text_slices() == ("ja", "en")
    assert values.item_slices() == ("ja",)
    assert [item["item"] for item in values.items_of(slice="ja")] == ["1", "3"]
