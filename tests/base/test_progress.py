"""Log lines of long steps."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sae_stitching.base import progress
from sae_stitching.base.progress import Progress, duration


class Clock:
    """Stands in for `time.monotonic`."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, logger="sae_stitching")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_line_says_how_far_and_how_fast(clock, lines):
    bar = Progress(4_000_000, "train 2304")
    clock.now += 60
    bar.update(1_000_000)
    assert lines() == [
        "train 2304: 1,000,000 of 4,000,000 tokens (25 %), 16,667 tokens/s, 3 min 00 s left"
    ]


def test_lines_come_after_a_second_then_every_ten_and_at_the_end(clock, lines):
    bar = Progress(100, "roc", unit="pairs")
    at = []
    for second in range(1, 101):
        clock.now += 0.5
        before = len(lines())
        bar.update(1)
        if len(lines()) > before:
            at.append(second / 2)
    assert at == [1.0, 11.0, 21.0, 31.0, 41.0, 50.0]
    assert lines()[0].startswith("roc: 2 of 100 pairs (2 %), 2 pairs/s, 49 s left")
    assert lines()[-1] == "roc: 100 of 100 pairs (100 %), 2 pairs/s, 0 s left"


def test_the_interval_can_be_set(clock, lines):
    bar = Progress(100, "fetch", every=2.0)
    for _ in range(6):
        clock.now += 1
        bar.update(1)
    assert len(lines()) == 3


def test_detail_is_asked_for_only_when_a_line_is_written(clock, lines):
    asked = []

    def detail():
        asked.append(clock.now)
        return "loss 1.25, 3 dead"

    bar = Progress(10, "train")
    bar.update(1, detail)
    assert not asked
    clock.now += 1
    bar.update(1, detail)
    assert len(asked) == 1
    assert lines()[0].endswith(" left, loss 1.25, 3 dead")


def test_work_that_is_done_at_once_has_a_line_too(clock, lines):
    del clock
    Progress(7, "encode").update(7)
    assert lines()[0].startswith("encode: 7 of 7 tokens (100 %)")
    Progress(0, "nothing").update(0)
    assert lines()[1].startswith("nothing: 0 of 0 tokens (0 %)")


def test_what_was_skipped_does_not_count_as_speed(clock, lines):
    bar = Progress(1000, "train")
    bar.skip(800)
    clock.now += 10
    bar.update(100)
    assert lines() == ["train: 900 of 1,000 tokens (90 %), 10 tokens/s, 10 s left"]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (3600 * 27 + 60 * 5 + 59, "27 h 05 min"),
    ],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


@given(seconds=st.floats(0, 1e6))
def test_a_duration_is_within_a_minute_of_what_it_says(seconds):
    units = {"h": 3600, "min": 60, "s": 1}
    words = duration(seconds).split()
    spoken = sum(int(n) * units[unit] for n, unit in zip(words[::2], words[1::2], strict=True))
    assert abs(spoken - seconds) <= (60.5 if "h" in words else 0.5)
