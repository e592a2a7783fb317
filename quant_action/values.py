"""The values behind an evaluation, per token and per item, kept so that any gate can be judged again without a model.

On disk, beside `evaluation.json`: `windows.npz` (arrays `nll`, `kl`, `top1`, each of shape [windows, scored positions]; no pickle) and
`items.jsonl` (one object per task item: `task`, `item`, `correct`, and what the model answered).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quant_action.errors import IntegrityError

if TYPE_CHECKING:
    import numpy as np

WINDOWS, ITEMS = "windows.npz", "items.jsonl"


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Teacher-forced values of every scored token; one row per window of the text."""

    nll: np.ndarray
    """Negative log-likelihood of the true next token, nats, float64 [windows, positions]."""
    kl: np.ndarray
    """KL(baseline || model) over the whole vocabulary, nats, float64 [windows, positions]; zeros for the baseline itself."""
    top1: np.ndarray
    """Whether the most likely token is the baseline's, bool [windows, positions]."""


@dataclass(frozen=True, kw_only=True)
class Values:
    windows: Windows | None
    items: tuple[dict[str, Any], ...]

    def tasks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(item["task"] for item in self.items))

    def of_task(self, task: str) -> tuple[dict[str, Any], ...]:
        return tuple(item for item in self.items if item["task"] == task)

    def correct(self, task: str | None = None) -> dict[tuple[str, str], bool]:
        """(task, item) -> whether the answer was right; of one task, or of all."""
        return {(item["task"], item["item"]): item["correct"] for item in self.items if task in (None, item["task"])}

    @classmethod
    def load(cls, folder: Path) -> Values:
        """Read what lies beside an evaluation; raises `IntegrityError` when it is not readable."""
        import numpy as np

        windows = None
        try:
            if (folder / WINDOWS).exists():
                with np.load(folder / WINDOWS, allow_pickle=False) as arrays:
                    windows = Windows(nll=arrays["nll"].astype(np.float64), kl=arrays["kl"].astype(np.float64), top1=arrays["top1"])
            items = tuple(json.loads(line) for line in (folder / ITEMS).read_text(encoding="utf-8").splitlines())
        except (OSError, ValueError, KeyError) as error:
            raise IntegrityError(
                f"the values of this evaluation are not readable: {error}", where=str(folder), remedy="Delete the folder and run again."
            ) from error
        return cls(windows=windows, items=items)

    def save(self, folder: Path) -> None:
        import numpy as np

        if self.windows:
            with (folder / WINDOWS).open("wb") as file:
                np.savez_compressed(file, nll=self.windows.nll, kl=self.windows.kl, top1=self.windows.top1)
        lines = [json.dumps(item, ensure_ascii=False, sort_keys=True) + "\n" for item in self.items]
        (folder / ITEMS).write_text("".join(lines), encoding="utf-8")
