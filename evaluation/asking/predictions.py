"""One batch, asked as it is, in other ways of decoding, and under each control.

clips ──engine.prepare──▶ prompts ──generate──────────────▶ the single free answer
                                  ├─generate_constrained──▶ the same, kept to the answer format
                                  └─draw, K times─────────▶ samples of the free answer
altered clips or prompts ──generate──▶ the controls' answers
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from driving.errors import DrivingError
from driving.records import record_group, record_name
from evaluation.asking.controls import HISTORY_CONTROLS, alter_frames
from evaluation.asking.engine import Engine
from qwenvl.train.generation import Generated
from qwenvl.train.sampling import Sampling

Record = dict[str, Any]
PLAIN = "plain"  # the video as it is
CONSTRAINED = "constrained"  # the video as it is, the answer kept to its format


@dataclass(frozen=True)
class Prediction:
    """One answer as it came, before anybody judged it.

    Attributes:
        id, group: of the row.
        control: PLAIN, or the name of the control whose video was shown.
        text: the answer.
        num_tokens, prompt_tokens: lengths.
        is_cut: stopped by the token limit.
        clip: [frames, height, width] of the first video.
        samples: further answers to the same, drawn; never the answer.
        num_cut_samples: of them, those stopped by the token limit.
    """

    id: str
    group: str
    control: str
    text: str
    num_tokens: int
    prompt_tokens: int
    is_cut: bool
    clip: list[int]
    samples: list[str] = field(default_factory=list)
    num_cut_samples: int = 0


@dataclass(frozen=True)
class Job:
    """What is asked.

    Attributes:
        records: the rows, in order.
        controls: names of the controls.
        control_ids: rows that the controls are shown for.
        donors: for wrong_clip, the record whose frames a row is shown.
        altered: for a control that changes the prompt, the record that is asked instead, by row id.
        seed: of shuffled frames.
        batch_size: rows asked at once.
        is_constrained: ask each row once more, and let it answer in the answer format only.
        sampling: how further answers are drawn, None for none.
    """

    records: list[Record]
    controls: tuple[str, ...] = ()
    control_ids: frozenset[str] = frozenset()
    donors: dict[str, Record] = field(default_factory=dict)
    seed: int = 7
    batch_size: int = 16
    altered: dict[str, dict[str, Record]] = field(default_factory=dict)
    is_constrained: bool = False
    sampling: Sampling | None = None


class Clock:
    """How long answers took, by kind: "free", "constrained", "samples", "controls".

    Prompts are included, the reading of clips is not.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, dict[str, float]] = {}

    def time(self, kind: str, ask: Callable[..., list[Generated]], *given: Any) -> list[Generated]:
        """Call `ask(*given)` and count its answers and tokens."""
        started = time.perf_counter()
        answers = ask(*given)
        seconds = time.perf_counter() - started
        num_tokens = sum(answer.num_tokens for answer in answers)
        self.add({kind: {"num_answers": len(answers), "num_tokens": num_tokens, "seconds": seconds}})
        return answers

    def add(self, kinds: dict[str, dict[str, float]]) -> None:
        """Add what another clock found."""
        for kind, values in kinds.items():
            known = self._kinds.setdefault(kind, dict.fromkeys(values, 0))
            for name, value in values.items():
                known[name] += value

    def to_json(self) -> dict[str, dict[str, float]]:
        return self._kinds


def answer_batch(
    job: Job, engine: Engine, batch: list[Record], clips: dict[str, Any], clock: Clock
) -> list[dict[str, Any]]:
    """Ask a batch as it is, then under each control; lines of predictions and skips as JSON values.

    Args:
        clips: of each row, or the error that met whoever read them.
    """
    lines: list[dict[str, Any]] = []
    good = []
    for record in batch:
        seen = clips[record_name(record)]
        if isinstance(seen, DrivingError):
            lines.append(_skip(record, "read", seen))
        else:
            good.append(record)
    asked, skipped = _prepare(engine, PLAIN, [(record, clips[record_name(record)]) for record in good])
    lines += skipped
    if asked:
        lines += _ask_plain(job, engine, asked, clock)
    for control in job.controls:
        rows = [record for record in good if record_name(record) in job.control_ids]
        prompts = job.altered.get(control, {})
        altered = [(prompts.get(record_name(record), record), _alter(job, control, record, clips)) for record in rows]
        for record, seen in altered:
            if isinstance(seen, DrivingError):
                lines.append(_skip(record, f"control {control}", seen))
        asked, skipped = _prepare(engine, control, [pair for pair in altered if isinstance(pair[1], list)])
        answers = clock.time("controls", engine.generate, [one.sample for one in asked]) if asked else []
        lines += skipped + [_line(one, control, answer) for one, answer in zip(asked, answers, strict=True)]
    return lines


def _ask_plain(job: Job, engine: Engine, asked: list[_Asked], clock: Clock) -> list[dict[str, Any]]:
    """The free answers with their samples, then the constrained ones."""
    samples, names = [one.sample for one in asked], [record_name(one.record) for one in asked]
    answers = clock.time("free", engine.generate, samples)
    lines = [_line(one, PLAIN, answer) for one, answer in zip(asked, answers, strict=True)]
    for index in range(job.sampling.num_samples if job.sampling else 0):
        drawn = clock.time("samples", engine.draw, samples, names, job.sampling, index)
        for line, answer in zip(lines, drawn, strict=True):
            line.setdefault("samples", []).append(answer.text)
            line["num_cut_samples"] = line.get("num_cut_samples", 0) + answer.is_cut
    if job.is_constrained:
        answers = clock.time("constrained", engine.generate_constrained, samples)
        lines += [_line(one, CONSTRAINED, answer) for one, answer in zip(asked, answers, strict=True)]
    return lines


def _alter(job: Job, control: str, record: Record, clips: dict[str, Any]) -> list[Any] | DrivingError:
    """The clips that a row is shown under a control; the donor's error where it cannot be read."""
    name = record_name(record)
    if control == "wrong_clip":
        return clips[record_name(job.donors[name])]
    if control in HISTORY_CONTROLS:
        return clips[name]
    return [clip._replace(frames=alter_frames(control, clip.frames, name, job.seed)) for clip in clips[name]]


@dataclass(frozen=True)
class _Asked:
    """One row that can be asked: its record, its clips, and what the engine made of them."""

    record: Record
    clips: list[Any]
    sample: Any


def _prepare(
    engine: Engine, control: str, shown: Sequence[tuple[Record, list[Any]]]
) -> tuple[list[_Asked], list[dict[str, Any]]]:
    """The rows that can be asked, and a skip for each that cannot."""
    asked, skipped = [], []
    for record, clips in shown:
        try:
            asked.append(_Asked(record, clips, engine.prepare(record, clips)))
        except DrivingError as error:
            skipped.append(_skip(record, "prepare" if control == PLAIN else f"control {control}", error))
    return asked, skipped


def _line(asked: _Asked, control: str, answer: Generated) -> dict[str, Any]:
    return {
        "id": record_name(asked.record),
        "group": record_group(asked.record),
        "control": control,
        "text": answer.text,
        "num_tokens": answer.num_tokens,
        "prompt_tokens": answer.prompt_tokens,
        "is_cut": answer.is_cut,
        "clip": list(asked.clips[0].frames.shape[:3]) if asked.clips else [],
    }


def _skip(record: Record, stage: str, error: DrivingError) -> dict[str, Any]:
    return {"id": record_name(record), "stage": stage, "reason": str(error), "values": {}}
