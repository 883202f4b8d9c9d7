"""What steering an answer costs a step: the grammar's mask and the dice, beside taking the likeliest token.

    random scores (16 rows, 151,936 tokens) ──▶ argmax alone | GrammarMask | RowSampler      (whole answers, in turn)

`uv run python -m benchmarks.decoding --processor FOLDER [--json FILE]` prints one JSON object as its last line:

    build_s               making the token grammar of a tokenizer, once a run
    num_states, num_tokens    of the grammar, and of the vocabulary's tokens that may occur in an answer
    step_ms               of a step of the whole batch: argmax; mask and draws come on top of it
    first_answer_ms       the mask while no state has been seen yet, a step

Processor seconds of one thread: other work on the machine moves them little. With `--device cuda` the wall seconds of
the GPU are taken instead.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import build_parser, describe_machine, describe_versions, print_numbers, thread_settings

NUM_TOKENS = 151_936  # width of Qwen3-VL's head
NUM_ROWS = 16
NUM_PAIRS = 30
SPREAD = 8.0  # of the scores: the 256 likeliest tokens hold nearly all probability, as a trained model's do
NUM_STEPS = 60  # timed of each way a round


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its numbers as the last line."""
    parser = build_parser("decoding", __doc__)
    parser.add_argument("--processor", type=Path, required=True, help="a folder with a Qwen tokenizer")
    parser.add_argument("--rows", type=int, default=NUM_ROWS, help="answers at once")
    parser.add_argument("--steps", type=int, default=NUM_STEPS, help="timed of each way a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; medians are printed")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    args = parser.parse_args(argv)
    os.environ.update(thread_settings(1))  # before torch is loaded
    numbers = measure(args)
    print_numbers(numbers, args.json)
    return 0


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Time each way in turn."""
    import torch

    from driving.answer_format import AnswerFormat
    from driving.answer_grammar import build_grammar
    from qwenvl.train.loading import load_processor
    from qwenvl.train.sampling import Sampling, build_sampler
    from qwenvl.train.token_grammar import GrammarMask, TokenGrammar, find_tokens

    tokenizer = load_processor(args.processor).tokenizer
    grammar = build_grammar(AnswerFormat(num_pairs=NUM_PAIRS))
    clock = _cpu_clock if args.device == "cpu" else _gpu_clock
    build_s, tokens = _time(clock, lambda: TokenGrammar(grammar, tokenizer, tokenizer.eos_token_id))
    names = [f"row {index}" for index in range(args.rows)]

    def mask() -> Any:
        return GrammarMask(tokens)

    def draw(top_p: float) -> Callable[[], Any]:
        return lambda: build_sampler(Sampling(1, top_p=top_p), names, 0, args.steps)

    ways = {"argmax": None, "mask": mask, "draw": draw(1.0), "draw_top_p": draw(0.95)}
    scores = SPREAD * torch.randn(args.rows, NUM_TOKENS, generator=torch.Generator().manual_seed(0)).to(args.device)
    first_s = _time_steps(clock, mask, scores, args.steps)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, build in ways.items():
            found[name].append(_time_steps(clock, build, scores, args.steps))
    return {
        "build_s": round(build_s, 3),
        "num_states": len(grammar.moves),
        "num_tokens": len(find_tokens(tokenizer, grammar.alphabet)),
        "rows": args.rows,
        "first_answer_ms": round(1000 * first_s, 3),
        "step_ms": {name: round(1000 * statistics.median(values), 3) for name, values in found.items()},
        "machine": describe_machine(),
        "versions": describe_versions(("torch", "transformers")),
    }


def _time_steps(clock: Callable[[], float], build: Callable[[], Any] | None, scores: Any, num_steps: int) -> float:
    """Seconds a step in which the tokens that are taken are said, one after the other."""
    import torch

    steer = None if build is None else build()
    said = torch.zeros(len(scores), 1, dtype=torch.long, device=scores.device)
    started = clock()
    for step in range(num_steps):
        shown = scores.roll(step, dims=-1)
        chosen = (shown if steer is None else steer(said, shown)).argmax(dim=-1)
        said = torch.cat([said, chosen[:, None]], dim=1)
    return (clock() - started) / num_steps


def _time(clock: Callable[[], float], work: Callable[[], Any]) -> tuple[float, Any]:
    started = clock()
    result = work()
    return clock() - started, result


def _cpu_clock() -> float:
    return time.process_time()


def _gpu_clock() -> float:
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    raise SystemExit(main())
