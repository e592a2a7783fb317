"""The values behind an evaluation, per token and per item, kept so that any gate can be judged again without a model.

On disk, beside `evaluation.json`: `windows.npz` and `long.npz` (arrays of `Windows`; no pickle) and `items.jsonl`, one object per item:

- always `task`, `item`, `correct`; where the row has them `slice` and `group`;
- of a choice `answer`, the index of the choice that the model finds most likely;
- of a generated answer `ended` (an end token or the end of its line came before the budget ran out) and `degenerate` (`empty`, `loop`,
  `no end` or null: `scorer/health.py`);
- with `samples: text` also `prompt`, `expected` and `answered` (texts for people, cut), `scores` of the choices, and of a generated answer
  the whole `output` and its token `ids`;
- with `samples: hash-only` none of these; instead `prompt_sha256`, and `answered_sha256` of prompt and answer together, so that a short
  answer cannot be guessed from its hash by who does not know the prompt.

A baseline's `states/` (`scorer/states.py`) holds the token ids of the text, and hidden states that are as good as the text. They stay in
the cache of the machine that measured, whatever `samples` says, and no report is made from them.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from quant_action.errors import IntegrityError

if TYPE_CHECKING:
    import numpy as np

WINDOWS, LONG, ITEMS = "windows.npz", "long.npz", "items.jsonl"


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Teacher-forced values of every scored token; one row per window of the text, or per long document."""

    nll: np.ndarray
    """Negative log-likelihood of the true next token, nats, float64 [windows, positions]."""
    kl: np.ndarray
    """KL(baseline || model) over the whole vocabulary, nats, float64 [windows, positions]; zeros for the baseline itself."""
    top1: np.ndarray
    """Whether the most likely token is the baseline's, bool [windows, positions]."""
    bytes: np.ndarray
    """UTF-8 bytes of the text that the scored tokens stand for, int64 [windows]."""
    slices: tuple[str, ...]
    """The name of the slice that each window is of, empty without one."""

    def of_slice(self, name: str) -> Windows | None:
        """The windows of one slice; None when there are none."""
        import numpy as np

        kept = np.array([slice == name for slice in self.slices], dtype=bool)
        if not kept.any():
            return None
        count = int(kept.sum())
        return Windows(nll=self.nll[kept], kl=self.kl[kept], top1=self.top1[kept], bytes=self.bytes[kept], slices=(name,) * count)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises what numpy and zipfile raise, and `ValueError`, for a file that `save` has not written."""
        import numpy as np

        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            nll, kl, top1, bytes = arrays["nll"].astype(np.float64), arrays["kl"].astype(np.float64), arrays["top1"], arrays["bytes"]
            slices = tuple(json.loads(arrays["slices"].tobytes()))
        if not (nll.ndim == 2 and nll.shape == kl.shape == top1.shape and bytes.shape == (len(nll),) and len(slices) == len(nll)):
            raise ValueError(f"the arrays in {path.name} do not belong together")
        return cls(nll=nll, kl=kl, top1=top1, bytes=bytes, slices=slices)

    def save(self, path: Path) -> None:
        import numpy as np

        slices = np.frombuffer(json.dumps(self.slices).encode(), dtype=np.uint8)
        with path.open("wb") as file:
            np.savez_compressed(file, nll=self.nll, kl=self.kl, top1=self.top1, bytes=self.bytes, slices=slices)


@dataclass(frozen=True, kw_only=True)
class Values:
    windows: Windows | None
    long: Windows | None = None
    """Of the ends of long documents."""
    items: tuple[dict[str, Any], ...]

    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item["task"] for item in self.items))

    def text_slices(self) -> tuple[str, ...]:
        """Of the windows, in their order."""
        return tuple(dict.fromkeys(name for name in self.windows.slices if name)) if self.windows else ()

    def item_slices(self) -> tuple[str, ...]:
        """Of the task items, in their order."""
        return tuple(dict.fromkeys(item["slice"] for item in self.items if "slice" in item))

    def items_of(self, *, task: str | None = None, slice: str | None = None) -> Iterator[dict[str, Any]]:
        """The items of one task, of one slice, or all."""
        return (item for item in self.items if task in (None, item["task"]) and slice in (None, item.get("slice")))

    def correct(self, task: str | None = None) -> dict[tuple[str, str], bool]:
        """(task, item) -> whether the answer was right; of one task, or of all."""
        return {(item["task"], item["item"]): item["correct"] for item in self.items_of(task=task)}

    @classmethod
    def load(cls, folder: Path) -> Values:
        """Read what lies beside an evaluation; raises `IntegrityError` when it is not readable."""
        try:
            windows, long = (Windows.load(folder / name) if (folder / name).exists() else None for name in (WINDOWS, LONG))
            items = tuple(json.loads(line) for line in (folder / ITEMS).read_text(encoding="utf-8").split("\n") if line)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise IntegrityError(
                f"the values of this evaluation are not readable: {error}", where=str(folder), remedy="Delete the folder and run again."
            ) from error
        return cls(windows=windows, long=long, items=items)

    def save(self, folder: Path) -> None:
        for windows, name in ((self.windows, WINDOWS), (self.long, LONG)):
            if windows:
                windows.save(folder / name)
        lines = [json.dumps(item, ensure_ascii=False, sort_keys=True) + "\n" for item in self.items]
        (folder / ITEMS).write_text("".join(lines), encoding="utf-8")
