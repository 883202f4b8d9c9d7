"""Several questions under way at once, left behind at a Ctrl-C or at the first error.

An executor's threads are waited for, also by Python when it ends: with a slow server for minutes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

Q = TypeVar("Q")
R = TypeVar("R")


def ask_each(ask: Callable[[Q], R], questions: Sequence[Q], num_at_once: int) -> list[R]:
    """The answers in the questions' order.

    Raises:
        Exception: The first that `ask` raises; no question is begun after it.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for place in range(len(questions)):
        waiting.put(place)
    told: queue.SimpleQueue[tuple[int, Any, BaseException | None]] = queue.SimpleQueue()
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            try:
                place = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                told.put((place, ask(questions[place]), None))
            except BaseException as error:  # noqa: BLE001 - raised again by who waits
                told.put((place, None, error))

    answers: dict[int, R] = {}
    try:
        for _ in range(min(num_at_once, len(questions))):
            threading.Thread(target=work, daemon=True, name="asker").start()
        while len(answers) < len(questions):
            place, answer, error = told.get()
            if error is not None:
                raise error
            answers[place] = answer
    finally:
        is_over.set()
    return [answers[place] for place in range(len(questions))]
