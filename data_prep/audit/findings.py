"""What the audit finds: one finding a check and recording, one verdict a check, one table.

Finding (check, recording) ──summarise──▶ Verdict (check) ──format_table──▶ text
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PASS, FAIL, SKIP = "PASS", "FAIL", "SKIP"
# What is only a property of single recordings, and kept out by the ledger, fails the dataset above this share.
TOLERATED_FRACTION = 0.02
TOLERATED_CHECKS = ("recordings open", "ego gaps")


@dataclass(frozen=True)
class Finding:
    """What one check says about one recording.

    Attributes:
        status: PASS, FAIL or SKIP.
        measured: the value, in words and units.
        fix: for a FAIL what to do, for a SKIP why it could not be judged.
        value: the value as a number, for the JSON; None where there is none.
    """

    check: str
    recording_id: str
    status: str
    measured: str
    fix: str = ""
    value: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What one check says about the dataset.

    Attributes:
        num_failed, num_judged, num_skipped: recordings.
        measured: of the worst recording where one failed, else of the middle one.
        fix: of that recording.
        failed: ids of the first recordings that failed.
    """

    check: str
    status: str
    num_failed: int
    num_judged: int
    num_skipped: int
    measured: str
    fix: str
    failed: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def summarise(findings: Sequence[Finding], checks: Sequence[str]) -> list[Verdict]:
    """One verdict a check, in the order of `checks`; a check without findings is a SKIP."""
    return [_summarise_check(check, [f for f in findings if f.check == check]) for check in checks]


def _summarise_check(check: str, findings: list[Finding]) -> Verdict:
    judged = [finding for finding in findings if finding.status != SKIP]
    failed = [finding for finding in findings if finding.status == FAIL]
    if not judged:
        reason = findings[0].fix if findings else "nothing to judge"
        return Verdict(check, SKIP, 0, 0, len(findings), "", reason, ())
    is_tolerated = check in TOLERATED_CHECKS and len(failed) <= TOLERATED_FRACTION * len(judged)
    shown = failed[0] if failed else _middle(judged)
    note = shown.fix
    if failed and is_tolerated:
        note = f"{len(failed)} of {len(judged)} recordings; their windows are left out and listed in skipped.jsonl"
    return Verdict(
        check=check,
        status=FAIL if failed and not is_tolerated else PASS,
        num_failed=len(failed),
        num_judged=len(judged),
        num_skipped=len(findings) - len(judged),
        measured=shown.measured,
        fix=note,
        failed=tuple(finding.recording_id for finding in failed[:10]),
    )


def _middle(judged: list[Finding]) -> Finding:
    with_value = sorted((f for f in judged if f.value is not None), key=lambda finding: finding.value)
    return with_value[len(with_value) // 2] if with_value else judged[0]


def format_table(verdicts: Sequence[Verdict]) -> str:
    """Verdicts as text: check, status, recordings, what was measured; below a FAIL which ones and what to do."""
    lines = [f"{'check':<20} {'status':<7}{'recordings':<15}measured"]
    for verdict in verdicts:
        counts = f"{verdict.num_failed}/{verdict.num_judged} bad" if verdict.num_failed else f"{verdict.num_judged} ok"
        if verdict.status == SKIP:
            lines.append(f"{verdict.check:<20} {SKIP:<7}{'-':<15}{verdict.fix}")
            continue
        lines.append(f"{verdict.check:<20} {verdict.status:<7}{counts:<15}{verdict.measured}")
        if verdict.num_failed:
            lines += _indent(f"recordings: {', '.join(verdict.failed[:3])}{', ...' if verdict.num_failed > 3 else ''}")
        if verdict.fix:
            lines += _indent(("fix: " if verdict.status == FAIL else "note: ") + verdict.fix)
    return "\n".join(lines)


def _indent(text: str) -> list[str]:
    return textwrap.wrap(text, width=110, initial_indent=" " * 28, subsequent_indent=" " * 33)
