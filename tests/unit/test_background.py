"""Calls in a thread of their own."""

import threading

import pytest

from velib.background import in_thread


def test_a_call_in_a_thread_gives_its_error() -> None:
    def fail() -> None:
        raise KeyError("16107")

    with pytest.raises(KeyError, match="16107"):
        in_thread(fail).result(timeout=10)


def test_a_call_in_a_thread_does_not_keep_its_caller_waiting() -> None:
    may_end, ended = threading.Event(), threading.Event()

    def call() -> None:
        may_end.wait(timeout=10)
        ended.set()

    result = in_thread(call)
    assert not result.done()
    may_end.set()
    result.result(timeout=10)
    assert ended.is_set()
