"""The baseline's final hidden states on disk, so that candidates are compared with it exactly, without it in memory.

`head.safetensors` holds the baseline's head; `window-NNNNN.safetensors` one batch of windows each and `document-NNNNN.safetensors` one of
long documents: `ids` [batch, length], and `hidden` [batch, scored, hidden] in the compute dtype, of the positions that score. For a
vocabulary of 128,000 that is some thirty times smaller than the logits. Ids and hidden states are as good as the text itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from quant_action.errors import IntegrityError
from quant_action.scorer.head import Head

HEAD = "head.safetensors"
REMEDY = "Delete the baseline's evaluation; a rerun makes it again."


Kind = Literal["window", "document"]


def _batch_file(folder: Path, kind: Kind, batch: int) -> Path:
    return folder / f"{kind}-{batch:05d}.safetensors"


def save_states(folder: Path, kind: Kind, batch: int, *, ids: torch.Tensor, hidden: torch.Tensor) -> None:
    save_file({"ids": ids.contiguous(), "hidden": hidden.contiguous()}, _batch_file(folder, kind, batch))


def load_states(folder: Path, kind: Kind, first: int, *, ids: torch.Tensor) -> torch.Tensor:
    """The baseline's hidden states of the windows, or documents, from number `first` on, which have these ids, however it was batched.

    Raises `IntegrityError` when there are none, or of another text.
    """
    per_file = max(1, len(_rows(_batch_file(folder, kind, 0), slice(None), "ids")))
    parts = []
    for batch in range(first // per_file, (first + len(ids) - 1) // per_file + 1):
        path, begin = _batch_file(folder, kind, batch), batch * per_file
        rows = slice(max(first - begin, 0), min(first + len(ids) - begin, per_file))
        expected = ids[begin + rows.start - first : begin + rows.stop - first]
        if not torch.equal(_rows(path, rows, "ids"), expected.cpu()):
            raise IntegrityError("the baseline's hidden states are of another text", where=str(path), remedy=REMEDY)
        parts.append(_rows(path, rows, "hidden"))
    return torch.cat(parts).to(ids.device)


def _rows(path: Path, rows: slice, name: str) -> torch.Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            tensor: torch.Tensor = file.get_slice(name)[rows]
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"the baseline's hidden states are not readable ({error})", where=str(path), remedy=REMEDY) from error
    return tensor


def load_head(folder: Path, *, device: str) -> Head:
    """The baseline's head. Raises `IntegrityError` when it is not readable."""
    try:
        return Head.load(folder / HEAD, device=device)
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"the baseline's head is not readable ({error})", where=str(folder / HEAD), remedy=REMEDY) from error


def first_ids(folder: Path, *, windows: int, tokens: int) -> torch.Tensor:
    """Ids [windows, tokens] of the beginning of the first windows that the baseline was scored on; fewer where it has fewer.

    Raises `IntegrityError` when they are not readable.
    """
    rows: list[torch.Tensor] = []
    for batch in range(windows):
        path = _batch_file(folder, "window", batch)
        if batch and (len(rows) >= windows or not path.exists()):
            break
        try:
            with safe_open(path, framework="pt") as file:
                rows.extend(file.get_tensor("ids"))
        except (OSError, SafetensorError) as error:
            raise IntegrityError(f"the baseline's token ids are not readable ({error})", where=str(path), remedy=REMEDY) from error
    return torch.stack(rows[:windows])[:, :tokens]
