"""Rows that a run cannot use: the same ones on every rank, and the same ones after a resume.

    found by the check of the rows, by measuring, or while decoding ──▶ skipped.jsonl, and a copy in every checkpoint
    resume ──read_settled──▶ exactly those rows stay out, whether their files were mended meanwhile or not

A row that came back in the middle of a run would be seen by the epochs after the resume only, and where it had been
dropped before the order was drawn, every batch would be another one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving.errors import DrivingError
from driving.ledger import LEDGER_NAME, Skip, check_bad_fraction, read_ledger, write_ledger
from qwenvl.train.checkpoints import find_damage, list_checkpoints
from qwenvl.train.consensus import Consensus

if TYPE_CHECKING:
    from qwenvl.data.dataset import BadSample, DrivingDataset
    from qwenvl.data.rows import Rows

LOAD_STAGE = "load"  # found while decoding: the row keeps its place in the order and is passed over there


def read_settled(run: Any) -> list[Skip] | None:
    """What a run to be continued has skipped so far; None where nothing would be continued.

    That is what its checkpoint holds, and what the ledger says was found while decoding after it.

    Args:
        run: the TrainingArguments.
    """
    if run.resume_from_checkpoint:
        candidates = [Path(run.resume_from_checkpoint)]
    else:
        candidates = [path for _, path in list_checkpoints(Path(run.output_dir))]
    checkpoint = next((path for path in candidates if not find_damage(path)), None)
    if checkpoint is None:
        return None
    found_since = [skip for skip in read_ledger(Path(run.output_dir) / LEDGER_NAME) if skip.stage == LOAD_STAGE]
    return list(_by_row([*read_ledger(checkpoint / LEDGER_NAME), *found_since]).values())


def list_known(rows: Rows) -> list[Skip]:
    """What is out before the first step: found by the checks, or by the run that is continued."""
    found_loading = [skip for skip in rows.settled or () if skip.stage == LOAD_STAGE]
    return [*rows.skips, *found_loading]


class SkipBook:
    """The skipped rows of a run, which all ranks know alike after each step.

    Attributes:
        skips: of all ranks, by id and row.
        has_news: this rank met a bad row that the others do not know of.
    """

    def __init__(
        self,
        folder: Path,
        dataset: DrivingDataset,
        skips: Iterable[Skip],
        *,
        max_bad_fraction: float,
        writes: bool = True,
    ) -> None:
        self._path = Path(folder) / LEDGER_NAME
        self._dataset = dataset
        self._max_bad_fraction = max_bad_fraction
        self._writes = writes
        self._news: list[Skip] = []
        self.skips: dict[tuple, Skip] = {}
        self._add(skips)
        self._num_rows = len(dataset) + sum(skip.stage != LOAD_STAGE for skip in self.skips.values())

    @property
    def has_news(self) -> bool:
        return bool(self._news)

    def note(self, bad: BadSample) -> None:
        """Take up a row that could not be loaded.

        Raises:
            DrivingError: It is one that must stop the run.
        """
        if bad.stops_run:
            raise DrivingError(bad.reason)
        skip = Skip(bad.id, LOAD_STAGE, bad.reason, {"row": bad.row})
        if _key(skip) not in self.skips:
            self._news.append(skip)

    def share(self, ranks: Consensus) -> None:
        """Tell all ranks of each other's news.

        Raises:
            LedgerError: More rows are bad than may be; on all ranks at once.
        """
        self._add(skip for news in ranks.gather(self._news) for skip in news)
        self._news = []
        if self._writes:
            write_ledger(self._path, list(self.skips.values()))
        check_bad_fraction(len(self.skips), self._num_rows, self._max_bad_fraction, self._path)

    def write(self, folder: Path) -> None:
        """Put a copy into a checkpoint."""
        write_ledger(Path(folder) / LEDGER_NAME, list(self.skips.values()))

    def _add(self, skips: Iterable[Skip]) -> None:
        found = _by_row(skips)
        self.skips.update(found)
        self._dataset.skip_rows(skip.values["row"] for skip in found.values() if skip.stage == LOAD_STAGE)


def _by_row(skips: Iterable[Skip]) -> dict[tuple, Skip]:
    return {_key(skip): skip for skip in skips}


def _key(skip: Skip) -> tuple:
    """What tells two skips apart: two rows may have one id."""
    return skip.id, skip.stage == LOAD_STAGE, skip.values.get("dataset"), skip.values.get("row")
