"""BLEU, ROUGE and CIDEr-D agree with the tools that define them."""

from __future__ import annotations

import numpy as np
import pytest

from driving.errors import RecordError
from evaluation.scoring.statistics import Bootstrap
from evaluation.text.captions import score_captions
from evaluation.text.cider import score_cider_d

REFERENCES = [
    [
        "the ego vehicle waits at a red light behind a white car",
        "a car waits at the red light in the rain",
    ],
    ["two pedestrians cross the street in front of the ego vehicle", "pedestrians cross at the intersection"],
    ["the highway is clear and traffic flows freely", "a clear highway with light traffic"],
]
ANSWERS = [
    "the ego vehicle waits at a red light",
    "pedestrians cross the street while the car waits",
    "the the the the highway is is clear",
]


def split(texts):
    return [text.split() for text in texts]


def test_cider_d_is_that_of_pycocoevalcap():
    # Cider().compute_score(...) of pycocoevalcap 1.2 on the same words
    scores = score_cider_d(split(ANSWERS), [split(one) for one in REFERENCES])
    assert scores == pytest.approx([4.12613836, 2.20279468, 1.61925535], abs=1e-8)
    assert scores.mean() == pytest.approx(2.649396126906039, abs=1e-12)


def test_cider_d_of_one_word_no_word_and_unknown_words_is_that_of_pycocoevalcap():
    scores = score_cider_d(split(["a", "", "unknown words only here"]), [split(one) for one in REFERENCES])
    assert scores == pytest.approx([0.13990092, 0, 0], abs=1e-8)


@pytest.fixture()
def rows(make_row):
    return [
        make_row(f"{i}", text, texts=texts) for i, (text, texts) in enumerate(zip(ANSWERS, REFERENCES, strict=True))
    ]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_bleu_of_summed_rows_is_the_corpus_bleu_of_sacrebleu(rows, value_of, order):
    from sacrebleu.metrics import BLEU

    theirs = BLEU(lowercase=True, smooth_method="none", max_ngram_order=order).corpus_score(
        ANSWERS, list(zip(*REFERENCES, strict=True))
    )
    assert value_of(score_captions(rows)[0][f"bleu_{order}"]) == pytest.approx(theirs.score, abs=1e-9)


def test_a_resampled_bleu_is_sacrebleus_of_the_rows_drawn(make_row, rows):
    from sacrebleu.metrics import BLEU

    measure = score_captions(rows)[0]["bleu_2"]
    drawn = [0, 0, 2]
    ours = measure.combine(*(column[drawn].mean() for column in measure.columns))
    theirs = BLEU(lowercase=True, smooth_method="none", max_ngram_order=2).corpus_score(
        [ANSWERS[i] for i in drawn], list(zip(*(REFERENCES[i] for i in drawn), strict=True))
    )
    assert float(ours) == pytest.approx(theirs.score, abs=1e-9)


def test_rouge_l_by_hand(make_row, value_of):
    # common subsequence "a bus waits": 3 of 4 words said, 3 of 5 true: F = 2 * 3 / 9
    rows = [make_row("a", "a red bus waits", text="a bus waits right there"), make_row("b", "x", text="x")]
    measures, _ = score_captions(rows)
    assert measures["rouge_l"].columns[0].tolist() == pytest.approx([6 / 9, 1])


def test_an_identical_caption_has_the_highest_scores(make_row, value_of):
    texts = ["a bus waits at the red light", "two cars turn left in the rain", "nobody is on the long road"]
    measures, facts = score_captions([make_row(text[0], text, text=text) for text in texts])
    values = {name: value_of(one) for name, one in measures.items()}
    assert values["bleu_4"] == pytest.approx(100)
    assert values["rouge_l"] == values["length_ratio"] == 1
    assert values["cider_d"] == pytest.approx(10)
    assert facts["bleu_signature"].startswith("nrefs:1|case:lc|eff:no|tok:13a|smooth:none|version:")


def test_silence_has_the_lowest_scores(make_row, value_of):
    rows = [make_row("a", "", text="a bus waits here"), make_row("b", "", text="two cars turn left")]
    values = {name: value_of(one) for name, one in score_captions(rows)[0].items()}
    assert set(values.values()) == {0}


def test_rows_may_have_different_numbers_of_references(make_row, value_of):
    rows = [make_row("a", "a bus", texts=["a bus", "one bus"]), make_row("b", "a car", text="a car")]
    measures, facts = score_captions(rows)
    assert value_of(measures["bleu_1"]) == pytest.approx(100)
    assert facts["bleu_signature"].startswith("nrefs:var")


def test_a_caption_that_says_everything_twice_repeats_almost_half(make_row):
    once = "the bus waits at the light ."
    rows = [make_row("a", once.replace(".", "") * 2, text=once), make_row("b", once, text=once)]
    # 12 words, 9 pieces of four, 6 different
    assert score_captions(rows)[0]["repetition"].columns[0].tolist() == pytest.approx([3 / 9, 0])


def test_one_caption_alone_has_no_cider(make_row):
    assert "cider_d" not in score_captions([make_row("a", "a bus", text="a bus")])[0]


def test_the_interval_holds_the_value(rows):
    measures, _ = score_captions(rows)
    one = measures["bleu_1"]
    found = Bootstrap(["a", "b", "c"], 500).estimate(one.combine, *one.columns)
    assert found.low <= found.value <= found.high
    assert np.isfinite([found.low, found.high]).all()


def test_a_caption_without_reference_is_refused(make_row):
    with pytest.raises(RecordError, match=r"has no \"text\" .* --task caption compares answers with it"):
        score_captions([make_row("a", "a bus")])
