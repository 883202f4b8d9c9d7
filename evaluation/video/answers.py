"""The answers about a video's seconds: what is drawn of each, and its line of predictions.jsonl.

Prediction | skip ──read_answer──▶ Shown (drawn), line (written)        lines ──summarise──▶ the last line of output
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driving.answer_format import AnswerFormat
from driving.trajectory import integrate
from evaluation.asking.predictions import Prediction
from evaluation.scoring.answers import parse_text
from evaluation.video.overlay_video import Shown
from evaluation.video.seconds import Second

COLLAPSED = 4  # so many equal answers are no chance
_SAID = {
    "strict": "answered",
    "lenient": "answered in another form",
    "failed": "with an answer that cannot be read",
    "skipped": "without readable frames",
}


def read_answer(
    second: Second, zero_s: float, prediction: Prediction | None, reason: str, answer_format: AnswerFormat
) -> tuple[Shown, dict[str, Any]]:
    """(what is drawn, the line of predictions.jsonl) of one second.

    Args:
        zero_s: the video's own time that times of the line count from.
        prediction: None where the second could not be asked about; then `reason` says why.
    """
    start, stop = second.start_s - zero_s, second.stop_s - zero_s
    line: dict[str, Any] = {"seen_s": [start, stop], "predicted_s": [stop, stop + second.duration_s]}
    if prediction is None:
        return Shown(second, None, "its frames cannot be read"), {**line, "parsing": "skipped", "error": reason}
    parsed = parse_text(prediction.text, answer_format)
    facts = {"text": prediction.text, "is_cut": prediction.is_cut, "num_tokens": prediction.num_tokens}
    line |= {"parsing": parsed.parsing, "error": parsed.error, **facts, "clip": prediction.clip}
    if parsed.trajectory is None:
        return Shown(second, None, "the answer could not be read"), line
    line |= {
        "velocity_mps": parsed.trajectory.velocity_mps.tolist(),
        "curvature_per_m": parsed.trajectory.curvature_per_m.tolist(),
        "path": integrate(parsed.trajectory, answer_format.interval_s).tolist(),
    }
    return Shown(second, parsed.trajectory), line


def find_collapse(lines: Sequence[dict[str, Any]]) -> str:
    """What to say where the model answered several questions all with one text; "" else, and of a car that stands."""
    texts = [line["text"] for line in lines if "text" in line]
    is_standing = not any(lines[0].get("velocity_mps", (1.0,)))
    if len(texts) < COLLAPSED or len(set(texts)) > 1 or is_standing:
        return ""
    return f"the model gave one answer to all {len(texts):,} questions: it may not look at the video at all"


def summarise(out: Path, lines_path: Path, lines: Sequence[dict[str, Any]]) -> str:
    """The last line of output."""
    kinds = [line["parsing"] for line in lines]
    parts = [f"{len(lines):,} questions"]
    parts += [f"{kinds.count(kind):,} {said}" for kind, said in _SAID.items() if kinds.count(kind)]
    return f"{', '.join(parts)}; {out} and {lines_path}"
