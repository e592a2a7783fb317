"""Runs in the environment `lm-eval`: several requests of the harness's worker in one process, which takes seconds to start.

python harness_requests.py REQUESTS.json OUT.json

The folder in HF_DATASETS_CACHE becomes a cache of data sets as `datasets` leaves it, with 20 rows in each part of ARC. OUT.json gets, for
each request, its items, or `{"error": ..., "remedy": ...}`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetInfo, SplitInfo
from datasets.arrow_writer import ArrowWriter
from datasets.splits import SplitDict

from quant_action.errors import QuantActionError
from quant_action.harness import worker

CACHE = Path(os.environ["HF_DATASETS_CACHE"])


def prepare_arc(config: str) -> None:
    rows: list[dict[str, Any]] = [
        {"id": str(n), "question": f"Is {n} odd?", "choices": {"text": ["yes", "no"], "label": ["A", "B"]}, "answerKey": "BA"[n % 2]}
        for n in range(20)
    ]
    folder, features, splits = CACHE / "allenai___ai2_arc" / config / "0.0.0" / ("0" * 40), Dataset.from_list(rows).features, []
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        writer = ArrowWriter(path=str(folder / f"ai2_arc-{split}.arrow"), features=features)
        for row in rows:
            writer.write(row)
        count, size = writer.finalize()
        splits.append(SplitInfo(split, size, count, dataset_name="ai2_arc"))
    info = DatasetInfo(features=features, splits=SplitDict.from_split_dict(splits, "ai2_arc"))
    info.builder_name = info.dataset_name = "ai2_arc"
    info.config_name, info.version = config, "0.0.0"
    info.write_to_directory(str(folder))


def main() -> None:
    requests, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for config in ("ARC-Easy", "ARC-Challenge"):
        prepare_arc(config)
    answers: list[Any] = []
    for request in requests:
        items = Path(request["output"])
        try:
            worker.evaluate(request, lambda *step: None)
            answers.append([json.loads(line) for line in items.read_text().splitlines()])
        except QuantActionError as error:
            answers.append({"error": str(error.args[0]), "remedy": error.remedy})
    out.write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
