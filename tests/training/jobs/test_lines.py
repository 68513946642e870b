"""What workers tell of their progress, and what the process that started the job shows of it."""

from __future__ import annotations

from typing import Any

from shopsight.serving.progress import counted
from shopsight.training.jobs.lines import Done, Say, _Counts
from tests.recorded_progress import RecordedProgress


class _Queue:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def put_nowait(self, message: Any) -> None:
        self.sent.append(message)


def test_a_worker_sends_hundredths_and_no_step_is_lost() -> None:
    queue = _Queue()
    with counted(Say(queue), "two towers", 1_000) as done:
        for _ in range(995):
            done(1)
    assert len(queue.sent) == 100
    assert sum(message.amount for message in queue.sent) == 995
    assert {message.total for message in queue.sent} == {1_000}


def test_amounts_of_several_workers_add_up_in_one_bar_and_the_next_work_ends_it() -> None:
    bars = RecordedProgress()
    with _Counts(bars) as counts:
        for done in (Done("trials", 3, 1), Done("trials", 3, 1), Done("ranker", 5, 5)):
            counts.add(done)
    assert bars.told == [
        *(("begins", "trials", 3), ("trials", 1), ("trials", 1), ("ends", "trials")),
        *(("begins", "ranker", 5), ("ranker", 5), ("ends", "ranker")),
    ]


def test_a_receiver_that_is_gone_stops_no_training() -> None:
    with counted(Say(None), "two towers", 2) as done:
        done(2)
