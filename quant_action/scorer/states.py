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
from safetensors.torch import load_file, save_file

from quant_action.errors import IntegrityError
from quant_action.scorer.head import Head

HEAD = "head.safetensors"
REMEDY = "Delete the baseline's evaluation; a rerun makes it again."


Kind = Literal["window", "document"]


def _batch_file(folder: Path, kind: Kind, batch: int) -> Path:
    return folder / f"{kind}-{batch:05d}.safetensors"


def save_states(folder: Path, kind: Kind, batch: int, *, ids: torch.Tensor, hidden: torch.Tensor) -> None:
    save_file({"ids": ids.contiguous(), "hidden": hidden.contiguous()}, _batch_file(folder, kind, batch))


def load_states(folder: Path, kind: Kind, batch: int, *, ids: torch.Tensor) -> torch.Tensor:
    """The baseline's hidden states of a batch with these ids. Raises `IntegrityError` when there are none, or of other windows."""
    path = _batch_file(folder, kind, batch)
    try:
        tensors = load_file(path, device=str(ids.device))
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"the baseline's hidden states are not readable ({error})", where=str(path), remedy=REMEDY) from error
    if not torch.equal(tensors["ids"], ids):
        raise IntegrityError("the baseline's hidden states are of another text", where=str(path), remedy=REMEDY)
    return tensors["hidden"]


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
