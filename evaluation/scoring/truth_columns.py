"""The columns of truth.parquet: which there must be, and lists of lists of numbers as arrays.

B = rows, T = entries of one row, N = entries of all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from driving.errors import DrivingError

NEEDED = ("id", "group", "split", "targets", "observed", "future_pose")


def check_columns(path: Path, schema: Any) -> None:
    """Raise where a parquet schema is not that of a truth.parquet.

    Raises:
        DrivingError: A column is missing, or of another type.
    """
    import pyarrow.types as types

    missing = [name for name in NEEDED if name not in schema.names]
    if missing:
        raise DrivingError(
            f"{path} has no column {', '.join(missing)}; run convert_to_training_format.py again to write it"
        )
    for name, is_right, what in (
        ("id", _is_text, "text"),
        *((name, _is_nested, "lists of numbers") for name in ("targets", "observed", "future_pose")),
    ):
        kind = schema.field(name).type
        if not is_right(kind) and not (name == "observed" and types.is_null(kind)):
            raise DrivingError(
                f"{path}: {name} is of the type {kind}, not {what}; run convert_to_training_format.py again"
            )


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind)


def _is_nested(kind: Any) -> bool:
    import pyarrow.types as types

    for _ in range(2):
        if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
            return False
        kind = kind.value_type
    return types.is_floating(kind) or types.is_integer(kind)


def _flatten(column: Any, width: int, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A column of lists of `width` numbers -> (values (N, width), start of each row, length of each row)."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).to_numpy().astype(np.int64)
    pairs = pc.list_flatten(column)
    widths = pc.unique(pc.list_value_length(pairs)).to_pylist()
    if pairs.null_count or widths not in ([width], []):
        raise DrivingError(f"{where}: each entry must hold {width} numbers, found {widths}")
    flat = pc.list_flatten(pairs).to_numpy().astype(np.float64)
    if not np.isfinite(flat).all():
        raise DrivingError(f"{where}: a value is not finite; labels are never filled in, prepare the data again")
    return flat.reshape(-1, width), np.cumsum(lengths) - lengths, lengths


def read_even_rows(column: Any, width: int, where: str) -> np.ndarray:
    """(B, T, width) float64 of a column whose rows are equally long."""
    values, _, lengths = _flatten(column, width, where)
    if len(set(lengths.tolist())) > 1:
        raise DrivingError(f"{where}: rows of {sorted(set(lengths.tolist()))} samples in one file; score them apart")
    return values.reshape(len(lengths), -1, width) if len(lengths) else np.zeros((0, 0, width))


def read_first_rows(column: Any, num_rows: int, width: int, where: str) -> np.ndarray:
    """(B, num_rows, width) float64: the first entries of each row; rows may be longer."""
    values, starts, lengths = _flatten(column, width, where)
    if len(lengths) and lengths.min() < num_rows:
        raise DrivingError(f"{where}: a row of {lengths.min()} poses, an answer needs {num_rows}")
    return values[starts[:, None] + np.arange(num_rows)]
