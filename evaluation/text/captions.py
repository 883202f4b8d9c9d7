"""Captions against reference captions: BLEU, ROUGE and CIDEr-D, and how long and how alike the captions are.

    answers, references (B rows) ──sacrebleu──▶ BLEU-1..4   ──rouge_score──▶ ROUGE-2, ROUGE-L   ──cider──▶ CIDEr-D

An n-gram score rewards what every clip shares: read it beside the `swapped` control. Each kind of text (detailed,
concise) is scored against references of its own kind: `type` tells them apart. Units are the libraries': BLEU 0 to 100,
ROUGE 0 to 1, CIDEr-D 0 to 10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from driving.errors import DrivingError
from evaluation.text.cider import score_cider_d
from evaluation.text.measures import Measure, Measures, mean_of, ratio_of
from evaluation.text.normalise import split_words
from evaluation.text.rows import TextRow, reference_texts

MAX_ORDER = 4
_NEEDS = "captions are scored with sacrebleu and rouge-score; run uv sync --inexact --extra text"
_REPEATED = 4  # words; a caption that says the same four words again repeats itself


def score_captions(rows: Sequence[TextRow]) -> tuple[Measures, dict[str, Any]]:
    """Scores of B answers and facts about them.

    Beside the n-gram scores: `length_ratio`, words said over words of the references; `distinct`, different captions
    over captions; `repetition`, share of an answer's four-word pieces that it has said before.
    """
    texts = [row.text for row in rows]
    references = [reference_texts(row, "caption") for row in rows]
    words = [split_words(text) for text in texts]
    reference_words = [[split_words(text) for text in choices] for choices in references]
    measures = _score_bleu(texts, references)
    measures |= _score_rouge(texts, references)
    if len(rows) > 1:
        measures["cider_d"] = mean_of(score_cider_d(words, reference_words))
    measures["length_ratio"] = ratio_of(
        [len(said) for said in words], [np.mean([len(one) for one in choices]) for choices in reference_words]
    )
    measures["repetition"] = mean_of([_measure_repetition(said) for said in words])
    commonest = Counter(texts).most_common(1)[0]
    facts = {
        "num_distinct_answers": len(set(texts)),
        "commonest_answer": {"text": commonest[0][:200], "num_rows": commonest[1]},
        "bleu_signature": _sign_bleu(texts, references),
        "mean_words": {"answers": float(np.mean([len(said) for said in words]))},
    }
    facts["mean_words"]["references"] = float(np.mean([len(one) for choices in reference_words for one in choices]))
    return measures, facts


def _load_bleu() -> Any:
    try:
        from sacrebleu.metrics import BLEU
    except ImportError:
        raise DrivingError(_NEEDS) from None
    return BLEU(lowercase=True, smooth_method="none")


def _score_bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> Measures:
    """Corpus BLEU-1..4; a row's columns are its matches, its n-grams and its lengths, which add up to the corpus's."""
    metric = _load_bleu()
    counts = []
    for text, choices in zip(texts, references, strict=True):
        # One row is a corpus of one sentence: sacrebleu counts for us.
        row = metric.corpus_score([text], [[choice] for choice in choices])
        counts.append([*row.counts, *row.totals, row.sys_len, row.ref_len])
    columns = np.array(counts, dtype=np.float64).T
    return {f"bleu_{order}": _build_bleu(columns, order) for order in range(1, MAX_ORDER + 1)}


def _sign_bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> str:
    """sacrebleu's own words for how it counts, to be quoted beside the number."""
    metric = _load_bleu()
    most = max(map(len, references))
    metric.corpus_score(
        texts, [[one[place] if place < len(one) else None for one in references] for place in range(most)]
    )
    return str(metric.get_signature())


def _build_bleu(columns: np.ndarray, order: int) -> Measure:
    """BLEU of the sums: Papineni et al. 2002, without smoothing."""
    used = (*columns[:order], *columns[MAX_ORDER : MAX_ORDER + order], *columns[-2:])

    def combine(*means: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = sum(np.log(hits / pieces) for hits, pieces in zip(means[:order], means[order : 2 * order]))
            brevity = np.minimum(0, 1 - means[-1] / means[-2])
            scores = 100 * np.exp(logs / order + brevity)
        return np.where(np.isnan(scores) & (means[-1] > 0), 0.0, scores)  # nothing said, or nothing of that length

    return Measure(combine, used)


def _score_rouge(texts: Sequence[str], references: Sequence[Sequence[str]]) -> Measures:
    """F of ROUGE-2 and ROUGE-L, the best over a row's references; no stemming."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise DrivingError(_NEEDS) from None
    from tqdm import tqdm

    scorer = RougeScorer(["rouge2", "rougeL"])
    pairs = tqdm(zip(texts, references), total=len(texts), unit=" captions", desc="rouge", disable=None, leave=False)
    found = [scorer.score_multi(list(choices), text) for text, choices in pairs]
    return {
        "rouge_2": mean_of([one["rouge2"].fmeasure for one in found]),
        "rouge_l": mean_of([one["rougeL"].fmeasure for one in found]),
    }


def _measure_repetition(words: Sequence[str]) -> float:
    pieces = [tuple(words[start : start + _REPEATED]) for start in range(len(words) - _REPEATED + 1)]
    return 1 - len(set(pieces)) / len(pieces) if pieces else 0.0
