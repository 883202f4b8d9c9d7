"""The text a model is taught to give, and how it is read back. Prompt and answer have one owner, so they agree.

    Trajectory ──format_answer──▶ "[(12.3, -0.0042), ...]" ──parse_answer──▶ Answer(kind, Trajectory)

A parse is *strict* (exactly N pairs and nothing else), *lenient* (exactly N finite pairs once prose, fences, spaces
and unicode minus are removed) or failed. Nothing is ever padded, cut or repaired beyond that. What a model says is
judged besides: a motion that no vehicle could drive has failed.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from driving.errors import AnswerError, DrivingError
from driving.feasibility import find_impossible
from driving.prompts import HISTORY_START, PHYSICAL_AI_SYSTEM, format_motion_question
from driving.trajectory import Trajectory, average_to_rate

Parsing = Literal["strict", "lenient"]
VIDEO_ONLY, EGO_HISTORY = "video only", "video and ego history"  # the two tracks, never mixed in one comparison


@dataclass(frozen=True)
class Notation:
    """How one pair is spelled.

    Attributes:
        velocity_decimals, curvature_decimals: digits after the point.
        is_signed: whether curvature (and speed) carry their sign.
        velocity_width: zero-padded width of the speed, 0 for none.
        pattern: the pair as the prompt shows it.
        sign_hint: what the prompt says about the sign.
    """

    velocity_decimals: int
    curvature_decimals: int
    is_signed: bool
    velocity_width: int
    pattern: str
    sign_hint: str


NOTATIONS = {
    # 0.0005 1/m is 0.22 m sideways at 30 m/s after one second: four decimals of curvature, signed.
    "signed": Notation(1, 4, True, 0, "[(xx.x, 0.xxxx), ...]", " in 1/m, positive = left"),
    "signed2": Notation(2, 4, True, 0, "[(xx.xx, 0.xxxx), ...]", " in 1/m, positive = left"),
    # The seed's: left and right turns are the same text. For reproduction only.
    "seed": Notation(1, 3, False, 4, "[(xx.x, 0.xxx), ...]", ""),
}

# Possessive quantifiers (*+, ++, ?+) never give back what they took: a hostile answer costs time in its length only.
_NUMBER = r"[+-]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][+-]?\d++)?+"
_PAIR = re.compile(rf"\(\s*+({_NUMBER})\s*+,\s*+({_NUMBER})\s*+\)", re.ASCII)
_LIST = re.compile(rf"\[\s*+(?:\(\s*+{_NUMBER}\s*+,\s*+{_NUMBER}\s*+\)\s*+(?:,\s*+)?+)*+\]", re.ASCII)
_MINUS_SIGNS = str.maketrans({"\u2212": "-", "\u2013": "-", "\u2012": "-", "\ufe63": "-", "\uff0d": "-"})
MAX_ANSWER_CHARS = 100_000


@dataclass(frozen=True)
class Answer:
    """A parsed answer: how strictly it could be read, and what it says."""

    parsing: Parsing
    trajectory: Trajectory


@dataclass(frozen=True)
class AnswerFormat:
    """One task's question and the shape of its answer.

    Attributes:
        name: a key of NOTATIONS.
        num_pairs: N, pairs in one answer.
        fps: frames per second of the clip, as the question says.
        duration_s: length of the clip and of the future asked for, in seconds.
        history_pairs: pairs of the clip's own motion that stand in the prompt; 0 = the model is given video only.

    Raises:
        DrivingError: The name is unknown, a number is none, there is no pair to ask for, or the history is at another
            rate.
    """

    name: str = "signed"
    num_pairs: int = 30
    fps: float = 30.0
    duration_s: float = 1.0
    system_prompt: str = PHYSICAL_AI_SYSTEM
    user_instruction: str = ""
    history_pairs: int = 0

    def __post_init__(self) -> None:
        if self.name not in NOTATIONS:
            raise DrivingError(f"answer format {self.name!r} is not one of {', '.join(NOTATIONS)}")
        for name in ("num_pairs", "history_pairs"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise DrivingError(f"an answer format's {name} is a whole number, not {value!r}; mend it")
        for name in ("fps", "duration_s"):
            value = getattr(self, name)
            if not isinstance(value, Real) or isinstance(value, bool) or not 0 < value < math.inf:
                raise DrivingError(f"an answer format's {name} is a number above 0, not {value!r}; mend it")
        if self.num_pairs < 1:
            raise DrivingError(f"an answer of {self.num_pairs} pairs holds nothing; ask for at least 1")
        if self.history_pairs not in (0, self.num_pairs):
            raise DrivingError(
                f"a history of {self.history_pairs} pairs beside answers of {self.num_pairs}: they share one rate; "
                "give 0 or the same number"
            )
        for line in f"{self.system_prompt}\n{self.user_instruction}".splitlines():
            if line.startswith(HISTORY_START):
                raise DrivingError(
                    f"a line of the prompt begins with {HISTORY_START!r}, which is how the ego motion of a clip is "
                    "told; say it in other words, or pass --ego-history to have it told"
                )

    @property
    def track(self) -> str:
        """VIDEO_ONLY or EGO_HISTORY: what a model is given. Scores of the two are never compared."""
        return EGO_HISTORY if self.history_pairs else VIDEO_ONLY

    @property
    def notation(self) -> Notation:
        return NOTATIONS[self.name]

    @property
    def interval_s(self) -> float:
        """Seconds that one pair stands for."""
        return self.duration_s / self.num_pairs

    @property
    def question(self) -> str:
        """What the user turn says, where it is the same for every clip; else see `ego_history.build_question`.

        Raises:
            DrivingError: The prompt holds the clip's own motion.
        """
        if self.history_pairs:
            raise DrivingError(
                f"this model is told the {self.history_pairs} pairs that the vehicle drove during the clip, and cannot "
                "be asked without them; ask it by scripts/evaluate.py about a dataset made with --ego-history, or take "
                "a model of the video-only track"
            )
        return self.instruction

    @property
    def instruction(self) -> str:
        """The part that is the same for every clip. A user's own may hold {num_pairs}, {fps} and {pattern}."""
        notation = self.notation
        if self.user_instruction:
            filled = self.user_instruction.replace("{num_pairs}", str(self.num_pairs))
            return filled.replace("{fps}", f"{self.fps:g}").replace("{pattern}", notation.pattern)
        seconds = f"{self.duration_s:g}"
        horizon = "second" if seconds == "1" else f"{seconds} seconds"
        return format_motion_question(
            self.num_pairs, f"{self.fps:g}", f"{seconds}-second", horizon, notation.pattern, notation.sign_hint
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> AnswerFormat:
        """What `to_json` wrote.

        Raises:
            DrivingError: It is a format of another version.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise DrivingError(
                f"the answer format {values} is not one of this version ({error}); run ./convert_to_training_format.py "
                "again for data, and use a model with the version of this project that trained it"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Plain values that `from_json` rebuilds; for video only the same as before there were tracks."""
        values = asdict(self)
        if not self.history_pairs:
            del values["history_pairs"]
        return values


def format_answer(trajectory: Trajectory, answer_format: AnswerFormat) -> str:
    """Write a trajectory as the answer the model is taught to give.

    A value that rounds to zero is written without a sign: two spellings of zero would teach the model a difference
    that is not there. A trajectory with more samples than pairs is averaged over equal intervals first.

    Returns:
        "[(v, k), (v, k), ...]" with `num_pairs` pairs.

    Raises:
        AnswerError: A value is not finite, or the samples do not divide into the pairs.
    """
    if not (np.isfinite(trajectory.velocity_mps).all() and np.isfinite(trajectory.curvature_per_m).all()):
        raise AnswerError("a trajectory with a value that is not finite cannot be written as an answer")
    try:
        pairs = average_to_rate(trajectory, answer_format.num_pairs)
    except ValueError as error:
        raise AnswerError(f"{error}; choose an --answer-hz that divides the frame rate") from error
    notation = answer_format.notation
    values = pairs.to_pairs() if notation.is_signed else np.abs(pairs.to_pairs())
    width = f"0{notation.velocity_width}" if notation.velocity_width else ""
    # z: what rounds to zero has no sign
    spell = f"({{:z{width}.{notation.velocity_decimals}f}}, {{:z.{notation.curvature_decimals}f}})".format
    return "[" + ", ".join(spell(v, k) for v, k in values.tolist()) + "]"


def parse_answer(text: str, answer_format: AnswerFormat) -> Answer:
    """Read an answer: strictly if it is nothing but the list, leniently if exactly N pairs are in it.

    Raises:
        AnswerError: The text does not hold exactly N finite pairs; the message says what it held.
    """
    if len(text) > MAX_ANSWER_CHARS:
        raise AnswerError(f"the answer is {len(text):,} characters long, at most {MAX_ANSWER_CHARS:,} are read")
    wanted = answer_format.num_pairs
    if _strict_pattern(answer_format).fullmatch(text):
        return Answer("strict", _read_pairs(text, wanted, text))
    cleaned = re.sub(r"\s+", " ", text.translate(_MINUS_SIGNS))
    lists = _LIST.findall(cleaned)
    if len(lists) == 1:
        cleaned = lists[0]  # prose around one closed list may itself hold pairs; the list is the answer
    return Answer("lenient", _read_pairs(cleaned, wanted, text))


def judge_answer(text: str, answer_format: AnswerFormat) -> Answer:
    """`parse_answer` of what a model said: an answer that no vehicle could drive is no answer.

    Held at some limit instead, an absurd speed in an absurd curve would circle on the spot and err by little.

    Raises:
        AnswerError: It cannot be read, or holds a value beyond `driving.feasibility`'s bounds.
    """
    answer = parse_answer(text, answer_format)
    impossible = find_impossible(answer.trajectory.velocity_mps, answer.trajectory.curvature_per_m)
    if impossible:
        raise AnswerError(f"the answer holds what no vehicle can do, {impossible}: {_clip(text)}")
    return answer


def count_pairs(text: str) -> int:
    """How many (velocity, curvature) pairs a text holds, whatever stands around them."""
    return sum(1 for _ in _PAIR.finditer(text[:MAX_ANSWER_CHARS].translate(_MINUS_SIGNS)))


def _strict_pattern(answer_format: AnswerFormat) -> re.Pattern[str]:
    notation = answer_format.notation
    sign = "-?" if notation.is_signed else ""
    velocity = rf"{sign}\d+\.\d{{{notation.velocity_decimals}}}"
    curvature = rf"{sign}\d+\.\d{{{notation.curvature_decimals}}}"
    pair = rf"\({velocity}, {curvature}\)"
    return re.compile(rf"\[{pair}(?:, {pair}){{{answer_format.num_pairs - 1}}}\]", re.ASCII)


def _read_pairs(text: str, wanted: int, whole: str) -> Trajectory:
    pairs = [(float(v), float(k)) for v, k in _PAIR.findall(text)]
    num_brackets = text.count("(")
    if len(pairs) != wanted:
        raise AnswerError(
            f"the answer holds {len(pairs)} (velocity, curvature) pairs, the prompt asked for {wanted}: {_clip(whole)}"
        )
    if num_brackets > wanted:
        raise AnswerError(f"the answer holds {num_brackets - wanted} brackets that are no pair: {_clip(whole)}")
    values = np.array(pairs)
    if not np.isfinite(values).all():
        raise AnswerError(f"the answer holds a value that is not finite: {_clip(whole)}")
    return Trajectory.from_pairs(values)


def _clip(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:79] + "\u2026")
