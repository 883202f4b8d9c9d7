"""Objects that a text speaks of and that are not there, with what it leaves out beside.

    text ──find_objects──▶ mentions (stated, denied, hedged) ──score_objects──▶ CHAIR and coverage

Source: Rohrbach et al. 2018, Object Hallucination in Image Captioning: CHAIR_i = hallucinated mentions / mentions,
CHAIR_s = captions with at least one hallucination. A long text almost always has one, so the share of *sentences* is
given too; a silent text has none, so coverage stands beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.text.measures import Measures, mean_of, ratio_of
from evaluation.text.ontology import Ontology
from evaluation.text.polarity import DENIED, STATED, judge_mentions, split_sentences
from evaluation.text.rows import TextRow, reference_names


@dataclass(frozen=True)
class Mention:
    """An object that a text speaks of.

    Attributes:
        name: class or generic word of the ontology.
        words: as written.
        sentence: number of the sentence.
        verdict: "stated", "denied" ("no buses") or "hedged" ("watch for buses"); only stated ones claim anything.
    """

    name: str
    words: str
    sentence: int
    verdict: str


def find_objects(text: str, ontology: Ontology) -> list[Mention]:
    """All objects that a text speaks of, in order."""
    mentions = []
    for number, sentence in enumerate(split_sentences(text)):
        found = [match for match in ontology.pattern.finditer(sentence) if ontology.name_of(match.group())]
        verdicts = judge_mentions(sentence, [match.span() for match in found])
        mentions += [
            Mention(ontology.name_of(match.group()), match.group(), number, verdict)
            for match, verdict in zip(found, verdicts, strict=True)
        ]
    return mentions


def score_objects(rows: Sequence[TextRow], ontology: Ontology) -> tuple[Measures, dict[str, Any]]:
    """Scores of the rows whose references have "objects", a list of the classes that are really there.

    `chair_i` and `chair_s` and `chair_sentence` (lower is better), `coverage` (share of the true classes that are
    spoken of), `objects_per_answer`, `silent` (answers that state no object), `false_denials` (of the objects said to
    be absent, those that are there). Hedged mentions count nowhere. No scores where no row has "objects".
    """
    truths = [reference_names(row, "objects", ontology.labels) for row in rows]
    if all(names is None for names in truths):
        return {}, {}
    counts, invented = [], {}
    for row, names in zip(rows, truths, strict=True):
        if names is None:
            counts.append([np.nan] * 9)
            continue
        there = {ontology.labels[name] for name in names}
        mentions = find_objects(row.text, ontology)
        counts.append(_count_row(row.text, mentions, there, ontology))
        for one in mentions:
            if one.verdict == STATED and not ontology.members[one.name] & there:
                invented[one.name] = invented.get(one.name, 0) + 1
    mentioned, wrong, has_wrong, sentences, wrong_sentences, covered, there, denied, denied_there = np.array(counts).T
    silent = np.where(np.isnan(mentioned), np.nan, mentioned == 0)
    measures = {
        "chair_i": ratio_of(wrong, mentioned),
        "chair_s": mean_of(has_wrong),
        "chair_sentence": ratio_of(wrong_sentences, sentences),
        "coverage": ratio_of(covered, there),
        "objects_per_answer": mean_of(mentioned),
        "silent": mean_of(silent),
        "false_denials": ratio_of(denied_there, denied),
    }
    most = sorted(invented.items(), key=lambda pair: (-pair[1], pair[0]))[:10]
    return measures, {"hallucinated_objects": dict(most), "num_rows_with_objects": int((~np.isnan(silent)).sum())}


def _count_row(text: str, mentions: Sequence[Mention], there: set[str], ontology: Ontology) -> list[float]:
    stated = [one for one in mentions if one.verdict == STATED]
    wrong = [one for one in stated if not ontology.members[one.name] & there]
    denied = [one for one in mentions if one.verdict == DENIED]
    covered = {one.name for one in stated} & there
    return [
        len(stated), len(wrong), bool(wrong), len(split_sentences(text)), len({one.sentence for one in wrong}),
        len(covered), len(there), len(denied), sum(bool(ontology.members[one.name] & there) for one in denied),
    ]  # fmt: skip
