"""Questions that are under way at once: in order, the first error at once, and nobody waits for the rest."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from evaluation.serving.askers import ask_each


def test_the_answers_come_in_the_order_of_the_questions():
    def ask(question):
        time.sleep((5 - question) / 100)
        return question * 10

    assert ask_each(ask, range(5), 3) == [0, 10, 20, 30, 40]


def test_no_question_is_no_answer():
    assert ask_each(str, [], 8) == []


def test_no_more_than_so_many_are_under_way():
    lock, under_way, most = threading.Lock(), [0], [0]

    def ask(_):
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        time.sleep(0.05)
        with lock:
            under_way[0] -= 1

    ask_each(ask, range(12), 4)
    assert 1 < most[0] <= 4


def test_the_first_error_does_not_wait_for_a_slow_answer_and_nothing_is_begun_after_it():
    begun, hold = [], threading.Event()

    def ask(question):
        begun.append(question)
        if question == 1:
            raise ValueError("no")
        hold.wait(60)

    started = time.monotonic()
    with pytest.raises(ValueError, match="^no$"):
        ask_each(ask, range(10), 2)
    assert time.monotonic() - started < 30
    hold.set()
    time.sleep(0.1)
    assert len(begun) <= 3  # the thread that raised may have taken one more before it was told


WAITING = """
import os, signal, sys, time
from driving.errors import run_main
from evaluation.serving.askers import ask_each

def ask(question):
    if question == 0:
        os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

sys.exit(run_main(lambda: ask_each(ask, range(4), 4)))
"""


def test_a_ctrl_c_does_not_wait_for_a_slow_server():
    started = time.monotonic()
    result = subprocess.run([sys.executable, "-c", WAITING], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 130
    assert result.stderr == "\ninterrupted; run the same command again to continue\n"
    assert time.monotonic() - started < 50
