"""When a device is trusted, and when it is condemned."""

from __future__ import annotations

from ofa_tvm.measurement.conduct import FAULTS_WITHIN, Conduct
from ofa_tvm.measurement.task import Tally


def test_two_failures_in_a_row_that_nobody_explains_make_suspect():
    conduct = Conduct()
    conduct.tried(Tally(tried=12, last_success=9), proven=True)
    conduct.job_failed(job=5, number=10)
    assert conduct.trusted
    conduct.job_failed(job=6, number=11)
    assert conduct.suspect
    assert not conduct.trusted
    conduct.explained(job=5)
    assert conduct.trusted


def test_a_success_after_them_takes_the_suspicion_away():
    conduct = Conduct()
    conduct.job_failed(job=5, number=0)
    conduct.job_failed(job=6, number=1)
    conduct.tried(Tally(tried=3, last_success=2), proven=True)
    assert conduct.trusted


def test_two_faults_of_its_own_condemn_unless_they_are_far_apart():
    conduct = Conduct()
    conduct.at_fault(0, "crashed")
    conduct.at_fault(FAULTS_WITHIN, "crashed")
    assert conduct.condemned is None
    conduct.at_fault(FAULTS_WITHIN + 1, "hung")
    assert conduct.condemned == "jobs fail on it that succeed on others, the last: hung"
    assert not conduct.trusted
    conduct.reprieved()
    assert conduct.trusted


def test_a_pardon_forgives_what_is_learnt_later_of_earlier_jobs():
    conduct = Conduct()
    conduct.tried(Tally(tried=10, last_success=7), proven=True)
    conduct.at_fault(8, "crashed")
    conduct.pardon()
    assert conduct.on_trial
    assert not conduct.proven
    conduct.trial_passed()
    conduct.at_fault(8, "crashed")
    conduct.at_fault(9, "crashed")
    assert conduct.condemned is None
    conduct.at_fault(10, "crashed")
    conduct.at_fault(11, "crashed")
    assert conduct.condemned is not None


def test_losses_count_until_something_works():
    conduct = Conduct()
    assert conduct.lost(1.0) == (1, 1.0)
    assert conduct.lost(2.0) == (2, 1.0)
    conduct.worked()
    assert conduct.lost(3.0) == (1, 3.0)


def test_a_tally_is_a_copy():
    conduct, tally = Conduct(), Tally()
    conduct.tried(tally, proven=True)
    tally.tried = conduct.tally.tried = 7
    assert conduct.tally.tried == 0
