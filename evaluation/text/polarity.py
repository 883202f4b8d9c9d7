"""Whether a text says that something is so, denies it, or only warns of it.

    "A bus waits."  stated      "There are no buses or trams."  denied      "Watch for buses."  hedged

Rules on words, no grammar: a cue reaches what follows it within a few words, and goes on through a list joined by "or",
"nor", "and" or a comma until an article or a number starts something new.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence

STATED, DENIED, HEDGED = "stated", "denied", "hedged"
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_CLAUSE = re.compile(r"[;:]|,?\s+(?:but|however|although|though|while|whereas|except)\b", re.IGNORECASE)
_DENIES = re.compile(
    r"(?<!['\"\u2018\u201c])\b(?:no|not\s+any|not\s+a|without|zero|neither|nor|none\s+of|free\s+of|absence\s+of|lack\s+of|clear\s+of|"
    r"devoid\s+of|never)\b|n't\s+(?:any|see)\b|\bnot\s+see\b",
    re.IGNORECASE,
)
_HEDGES = re.compile(
    r"\b(?:watch(?:ing)?\s+(?:out\s+)?for|look(?:ing)?\s+out\s+for|in\s+case\s+of|if|potential(?:ly)?|possib(?:le|ly)|"
    r"may|might|could|should|beware\s+of|alert\s+for|prepared\s+for|risk\s+of|hidden|unseen)\b",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"\s*(?:(?:is|are|was|were)\s+(?:not|currently\s+not)\s+(?:visible|present|seen|in\s+sight|detected|observed|there)|"
    r"(?:is|are|was|were)n't\s+(?:visible|present|seen)|(?:is|are|was|were)\s+absent)\b",
    re.IGNORECASE,
)
_STARTS_ANEW = re.compile(r"\b(?:an?|the|one|two|three|four|five|several|some|many|multiple|another)\b", re.IGNORECASE)
_JOINS = re.compile(r",|\b(?:or|nor|and)\b", re.IGNORECASE)
# "no change in the traffic light" denies the change.
_SOMETHING_ELSE = re.compile(r"\b(?:the|from|in|of|among|by|to|on|at|for|with)\b|,", re.IGNORECASE)
_REACH_WORDS = 4
_LIST_WORDS = 3


def split_sentences(text: str) -> list[str]:
    """Sentences of a text; a line break ends one."""
    return [part for part in _SENTENCE.split(text) if part.strip()]


def judge_mentions(sentence: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    """STATED, DENIED or HEDGED for each mention.

    Args:
        sentence: one sentence.
        spans: (start, stop) of each mention in it, in order.
    """
    borders = [0, *(match.start() for match in _CLAUSE.finditer(sentence))]
    verdicts: list[str] = []
    stop_before, start_before = 0, 0
    for start, stop in spans:
        clause = borders[bisect.bisect_right(borders, start) - 1]
        is_same_clause = bool(verdicts) and start_before >= clause
        gap = sentence[max(stop_before, clause) : start]
        before = verdicts[-1] if is_same_clause else STATED
        verdicts.append(_judge(gap, before, bool(_DENIED_AFTER.match(sentence, stop))))
        stop_before, start_before = stop, start
    return verdicts


def _judge(gap: str, before: str, is_denied_after: bool) -> str:
    if is_denied_after:
        return DENIED
    for cue, verdict in ((_DENIES, DENIED), (_HEDGES, HEDGED)):
        found = list(cue.finditer(gap))
        if found:
            between = gap[found[-1].end() :]
            if len(between.split()) <= _REACH_WORDS and not _SOMETHING_ELSE.search(between):
                return verdict
    goes_on = _JOINS.search(gap) and not _STARTS_ANEW.search(gap) and len(gap.split()) <= _LIST_WORDS
    return before if goes_on else STATED
