"""Which rows a model is judged on while it learns: val beside the training JSON, never test.

[DatasetUse of training] ──find_validation──▶ [DatasetUse of val]
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from driving.errors import DrivingError
from qwenvl.data import DatasetUse, parse_dataset_use
from qwenvl.data.stream_rows import find_shards

_TEST_NAME = re.compile(r"(^|[^a-z])test($|[^a-z])")


def find_validation(training: Sequence[DatasetUse], asked: str = "") -> list[DatasetUse]:
    """The validation JSON beside each training JSON, or what `--eval_dataset_use` asks for; none of them twice.

    Raises:
        DrivingError: There is none beside a training JSON, or test rows are asked for.
    """
    uses = parse_dataset_use(asked) if asked else [_find_beside(use) for use in training]
    for use in uses:
        if _TEST_NAME.search(use.annotation_path.name.lower()):
            raise DrivingError(
                f"--eval_dataset_use {use.annotation_path} is called test: what is chosen while training must not see "
                "test rows, only scripts/evaluate.py reads them; name the val.json"
            )
    return list({use.annotation_path.resolve(): use for use in uses}.values())


def _find_beside(use: DatasetUse) -> DatasetUse:
    path = use.annotation_path
    suffixes = "".join(path.suffixes)
    candidates = [path.with_name(f"val{suffixes}")]
    if path.name.startswith("train"):
        candidates.insert(0, path.with_name(f"val{path.name.removeprefix('train')}"))
    for candidate in candidates:
        if candidate.is_file() or find_shards(candidate):
            return DatasetUse(str(candidate), candidate, use.data_path)
    raise DrivingError(
        f"there is no {candidates[0]} to evaluate on beside {path.name}; name a validation JSON with "
        "--eval_dataset_use, or leave --eval_strategy out"
    )
