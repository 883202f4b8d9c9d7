"""Answers kept to their format, over the tokens of a small and of the real vocabulary."""

from __future__ import annotations

import types

import pytest

pytest.importorskip("torch")

import torch  # noqa: E402

from driving.answer_format import NOTATIONS, AnswerFormat, parse_answer  # noqa: E402
from driving.answer_grammar import build_grammar  # noqa: E402
from driving.errors import DrivingError  # noqa: E402
from qwenvl.train.token_grammar import GrammarMask, TokenGrammar, find_tokens  # noqa: E402

pytestmark = pytest.mark.needs_torch


def build_tokens(tokenizer, **values) -> TokenGrammar:
    return TokenGrammar(build_grammar(AnswerFormat(**values)), tokenizer, tokenizer.convert_tokens_to_ids("<|im_end|>"))


def speak(tokens, vocabulary, num_rows, guess, pad=0):
    """What a model that guesses its scores would say under the mask, as `generate` collects it: token ids a row."""
    mask, said = GrammarMask(tokens), torch.zeros(num_rows, 1, dtype=torch.long)
    is_done = torch.zeros(num_rows, dtype=torch.bool)
    for _ in range(tokens.max_tokens):
        chosen = mask(said, guess(num_rows, vocabulary)).argmax(dim=-1)
        said = torch.cat([said, torch.where(is_done, pad, chosen)[:, None]], dim=1)
        is_done |= chosen == tokens.end_token
        if is_done.all():
            return [row[1 : row.index(tokens.end_token)] for row in said.tolist()]
    raise AssertionError("a row did not end")


def random_scores(num_rows, vocabulary):
    return torch.randn(num_rows, vocabulary)


@pytest.mark.parametrize("name", NOTATIONS)
def test_whatever_a_random_model_says_is_a_strict_answer(name, processor):
    torch.manual_seed(0)
    tokenizer = processor.tokenizer
    answer_format = AnswerFormat(name=name, num_pairs=5)
    tokens = build_tokens(tokenizer, name=name, num_pairs=5)
    for ids in speak(tokens, len(tokenizer), 200, random_scores):
        assert parse_answer(tokenizer.decode(ids), answer_format).parsing == "strict"


def test_the_real_vocabulary_too_whose_tokens_hold_several_characters(real_processor):
    torch.manual_seed(0)
    tokenizer = real_processor.tokenizer
    tokens = build_tokens(tokenizer, num_pairs=30)
    said = speak(tokens, 151_936, 4, random_scores)  # the model's head is wider than the vocabulary
    assert [parse_answer(tokenizer.decode(ids), AnswerFormat()).parsing for ids in said] == ["strict"] * 4
    start = {tokenizer.decode([token]) for token in tokens.allowed(0)}
    assert start == {"[", "[("}


def test_the_real_tokenizers_own_spelling_of_an_answer_is_let_through(real_processor):
    tokenizer = real_processor.tokenizer
    tokens = build_tokens(tokenizer, num_pairs=3)
    state = 0
    for token in tokenizer("[(12.3, -0.0042), (-0.5, 0.0000), (102.0, 1.0000)]")["input_ids"]:
        state = tokens.allowed(state)[token]
    assert tokens.allowed(state) == {tokenizer.convert_tokens_to_ids("<|im_end|>"): tokens.grammar.final}


@pytest.mark.parametrize("score", [float("nan"), float("-inf"), float("inf"), 0.0])
def test_a_model_whose_scores_are_no_numbers_still_answers(score, processor):
    tokens = build_tokens(processor.tokenizer, num_pairs=2)
    (ids,) = speak(tokens, len(processor.tokenizer), 1, lambda rows, vocabulary: torch.full((rows, vocabulary), score))
    assert parse_answer(processor.tokenizer.decode(ids), AnswerFormat(num_pairs=2)).parsing == "strict"


def test_a_model_that_prefers_the_longest_words_and_one_that_prefers_digits_come_to_an_end(processor):
    tokenizer = processor.tokenizer
    tokens = build_tokens(tokenizer, num_pairs=3)
    lengths = torch.tensor([float(len(tokenizer.decode([token]))) for token in range(len(tokenizer))])
    digits = torch.tensor([float(tokenizer.decode([token]).isdigit()) for token in range(len(tokenizer))])
    for preference in (lengths, -lengths, digits):
        (ids,) = speak(tokens, len(tokenizer), 1, lambda rows, vocabulary, scores=preference: scores[None].clone())
        assert parse_answer(tokenizer.decode(ids), AnswerFormat(num_pairs=3)).parsing == "strict"


def test_the_likeliest_token_is_kept_where_it_is_allowed(processor):
    tokens = build_tokens(processor.tokenizer, num_pairs=1)
    scores = torch.zeros(1, len(processor.tokenizer))
    (bracket,) = processor.tokenizer("[", add_special_tokens=False)["input_ids"]
    scores[0, 5], scores[0, bracket] = 9.0, 3.5
    masked = GrammarMask(tokens)(torch.zeros(1, 1, dtype=torch.long), scores)
    assert int(masked.argmax()) == bracket
    assert float(masked.max()) == 3.5
    assert set(torch.isfinite(masked)[0].nonzero()[:, 0].tolist()) == set(tokens.allowed(0))


def test_special_tokens_never_spell_an_answer(real_processor):
    tokenizer = real_processor.tokenizer
    found = find_tokens(tokenizer, build_grammar(AnswerFormat()).alphabet)
    assert not set(found) & set(tokenizer.all_special_ids)
    assert {"[", "(", "0", "9", "-", " ", "), "} & set(found.values()) >= {"[", "(", "0", "9", "-", " "}


def test_a_tokenizer_without_a_character_is_refused():
    lacking = types.SimpleNamespace(
        all_special_ids=[], added_tokens_decoder={}, get_vocab=lambda: {"(": 0, ")": 1}, decode=lambda ids: "()"[ids[0]]
    )
    with pytest.raises(DrivingError, match="the tokenizer has no token for ' ' alone, .* run without --constrained"):
        TokenGrammar(build_grammar(AnswerFormat()), lacking, 2)
