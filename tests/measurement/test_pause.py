"""For how long a device is left alone, on a clock that is told what time it is."""

from __future__ import annotations

from ofa_tvm.measurement.limits import Limits
from ofa_tvm.measurement.pause import Pause

LIMITS = Limits(pause_s=4.0, longest_pause_s=10.0, retry_s=1.0)


def test_each_pause_is_twice_as_long_up_to_a_limit():
    pause, now_s, lengths = Pause(), 0.0, []
    for _ in range(4):
        assert pause.begin(now_s, LIMITS)
        lengths.append(pause.length_s)
        assert pause.lasts(now_s + pause.length_s - 0.1)
        now_s += pause.length_s
        assert not pause.lasts(now_s)
    assert lengths == [4.0, 8.0, 10.0, 10.0]


def test_a_device_that_has_measured_begins_anew():
    pause = Pause()
    pause.begin(0.0, LIMITS)
    pause.forget()
    pause.begin(100.0, LIMITS)
    assert pause.length_s == 4.0


def test_a_trial_before_its_end_begins_the_same_pause_again():
    pause = Pause()
    pause.begin(0.0, LIMITS)
    assert pause.is_fresh(0.9, LIMITS)
    assert not pause.is_fresh(1.0, LIMITS)
    assert not pause.begin(1.0, LIMITS)
    assert pause.length_s == 4.0
    assert pause.lasts(4.9)
    assert pause.is_fresh(1.9, LIMITS)


def test_a_pause_shorter_than_the_time_between_trials_ends_when_it_ends():
    pause = Pause()
    pause.begin(0.0, Limits(pause_s=0.5, retry_s=1.0))
    assert not pause.is_fresh(0.6, Limits(pause_s=0.5, retry_s=1.0))


def test_a_trial_passed_early_ends_the_pause_but_the_next_is_longer():
    pause = Pause()
    pause.begin(0.0, LIMITS)
    pause.end()
    assert not pause.lasts(0.1)
    assert pause.begin(0.2, LIMITS)
    assert pause.length_s == 8.0
