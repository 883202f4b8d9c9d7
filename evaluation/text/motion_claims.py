"""What a text claims that the own car did, beside what was recorded.

    text ──find_claims──▶ (kind, verdict) ──score_motion──▶ precision, recall, left-right errors

Rules on words, no grammar: a claim is a verb of motion whose subject is the own car ("the ego vehicle", "we", "the
driver", a bare "the car", or none, as in "Slows down for a light."). What another road user does, what is denied
("without stopping") and what is only advised ("should slow down") claims nothing. They were written on our own
sentences, not fitted to any data set; read precision as precision of text and rules together.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driving.motion_facts import MOTION_FACTS, TURNS_LEFT, TURNS_RIGHT
from evaluation.text.measures import Measures, f1_of, mean_of, ratio_of
from evaluation.text.motion_words import (
    ACTOR_AFTER,
    BASE_FORM,
    BEGINS,
    DENIES,
    HEDGES,
    INFINITIVE,
    IS_SEEN,
    NOUN_BEFORE,
    OBJECT_BEFORE,
    PURPOSE,
    RELATIVE,
    SUBJECT,
    VERBS,
)
from evaluation.text.polarity import DENIED, HEDGED, STATED, split_sentences
from evaluation.text.rows import TextRow, reference_names

_REACH = 120  # characters around a verb or a noun that can change what it means


@dataclass(frozen=True)
class Claim:
    """One thing that a text says the own car did.

    Attributes:
        kind: one of MOTION_FACTS.
        words: as written.
        sentence: number of the sentence.
        verdict: "stated", "denied" or "hedged"; only stated ones claim anything.
    """

    kind: str
    words: str
    sentence: int
    verdict: str


@dataclass(frozen=True)
class _Subject:
    """A road user that a sentence names: where, whether it is the own car, and whether something is done *to* it."""

    stop: int
    is_own: bool
    is_object: bool
    words: str


def find_claims(text: str) -> list[Claim]:
    """All that a text says of the own car's motion, in order."""
    claims, is_own = [], True  # a text that names nobody speaks of the own car
    for number, sentence in enumerate(split_sentences(text)):
        subjects = _list_subjects(sentence)
        stops = [subject.stop for subject in subjects]
        verbs = [(match, kind) for kind, pattern in VERBS.items() for match in pattern.finditer(sentence)]
        for match, kind in sorted(verbs, key=lambda verb: verb[0].start()):
            before = subjects[: bisect.bisect_right(stops, match.start())]
            is_ours, who = _choose_subject(before, sentence, match.start(), is_own)
            left = sentence[max(0, match.start() - _REACH) : match.start()]
            is_nobodys = _is_noun(left, match.group()) or (not who and IS_SEEN.search(left))
            if is_ours and not is_nobodys and not _describes_another(sentence[match.end() :][:_REACH], match.group()):
                claims.append(Claim(kind, match.group(), number, _judge(left, match.group(), who)))
        is_own = next((subject.is_own for subject in reversed(subjects) if not subject.is_object), is_own)
    return claims


def _list_subjects(sentence: str) -> list[_Subject]:
    return [
        _Subject(
            match.end(),
            match["own"] is not None,
            bool(OBJECT_BEFORE.search(sentence[max(0, match.start() - _REACH) : match.start()])),
            match.group().lower(),
        )
        for match in SUBJECT.finditer(sentence)
    ]


def _choose_subject(before: list[_Subject], sentence: str, start: int, inherited: bool) -> tuple[bool, str]:
    """(whether the own car does what the verb at `start` says, the words that name who does)."""
    if before and not before[-1].is_own and RELATIVE.fullmatch(sentence, before[-1].stop, start):
        return False, before[-1].words  # "behind a truck that stops", "a car turning left"
    acting = next((subject for subject in reversed(before) if not subject.is_object), None)
    return (inherited, "") if acting is None else (acting.is_own, acting.words)


def _is_noun(before: str, words: str) -> bool:
    return words.lower() in ("stops", "halts") and bool(NOUN_BEFORE.search(before))


def _describes_another(rest: str, words: str) -> bool:
    """Whether the verb is an adjective of somebody else: "a slowing car", "stopped traffic"."""
    return words.split()[0].lower().endswith(("ing", "ed")) and bool(ACTOR_AFTER.match(rest))


def _judge(before: str, words: str, subject: str) -> str:
    if DENIES.search(before):
        return DENIED
    if BEGINS.search(before):
        return STATED
    # "We stop" tells, "Stop here" and "the driver should slow down, stop and wait" advise.
    is_advice = BASE_FORM.match(words) and subject not in ("we", "i")
    is_aim = INFINITIVE.search(before) or (PURPOSE.search(before) and words.split()[0].lower().endswith("ing"))
    return HEDGED if is_advice or is_aim or HEDGES.search(before) else STATED


def score_motion(rows: Sequence[TextRow]) -> tuple[Measures, dict[str, Any]]:
    """Scores of the rows whose references have "motion", the list of MOTION_FACTS that were recorded.

    A fact counts once a text. `motion_precision`, `motion_recall`, `motion_f1` over all facts and of each kind;
    `motion_claims_per_answer`; `motion_false_denials` (of the facts denied, those recorded); `motion_wrong_side` (where
    one side was turned to and one side is claimed, the share of answers that claim the other).
    """
    truths = [reference_names(row, "motion", MOTION_FACTS) for row in rows]
    if all(names is None for names in truths):
        return {}, {}
    shape = (len(rows), len(MOTION_FACTS))
    true, claimed, denied = (np.full(shape, np.nan) for _ in range(3))
    for index, (row, names) in enumerate(zip(rows, truths, strict=True)):
        if names is not None:
            claims = find_claims(row.text)
            true[index] = [kind in names for kind in MOTION_FACTS]
            for table, verdict in ((claimed, STATED), (denied, DENIED)):
                kinds = {claim.kind for claim in claims if claim.verdict == verdict}
                table[index] = [kind in kinds for kind in MOTION_FACTS]
    hits = claimed * true
    measures = {
        "motion_precision": ratio_of(hits.sum(1), claimed.sum(1)),
        "motion_recall": ratio_of(hits.sum(1), true.sum(1)),
        "motion_f1": f1_of(hits.sum(1), claimed.sum(1), true.sum(1)),
        "motion_claims_per_answer": mean_of(claimed.sum(1)),
        "motion_false_denials": ratio_of((denied * true).sum(1), denied.sum(1)),
        "motion_wrong_side": mean_of(_wrong_side(claimed, true)),
    }
    for column, kind in enumerate(MOTION_FACTS):
        measures[f"motion/{kind}/precision"] = ratio_of(hits[:, column], claimed[:, column])
        measures[f"motion/{kind}/recall"] = ratio_of(hits[:, column], true[:, column])
    counts = {kind: int(np.nansum(true[:, column])) for column, kind in enumerate(MOTION_FACTS)}
    return measures, {"recorded_motion": counts}


def _wrong_side(claimed: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(B,) 1 where a turn is told to the other side, 0 where to its own, NaN where no side can be judged."""
    left, right = MOTION_FACTS.index(TURNS_LEFT), MOTION_FACTS.index(TURNS_RIGHT)
    one_true = true[:, left] + true[:, right] == 1
    one_said = claimed[:, left] + claimed[:, right] == 1
    return np.where(one_true & one_said, np.abs(claimed[:, left] - true[:, left]), np.nan)
