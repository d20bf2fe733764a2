"""A device of a farm from its first offer on."""

from __future__ import annotations

from pathlib import Path

from ofa_tvm.measurement.chunk import Chunk
from ofa_tvm.measurement.job import KernelJob
from ofa_tvm.measurement.limits import Limits
from ofa_tvm.measurement.member import Member
from ofa_tvm.measurement.null_device import NullDevice
from ofa_tvm.measurement.task import Tally, Task
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import load_target

LIMITS = Limits(pause_s=4.0, longest_pause_s=10.0)


def a_chunk() -> Chunk:
    job = KernelJob(Path("x.so"), "kernel", ((1,),), Workload("scale", 1, 1, 1, 1))
    return Chunk([Task(0, job)], Tally())


def a_member() -> Member:
    member = Member("address")
    member.connection.made("address", NullDevice(load_target("null")))
    return member


def test_it_is_called_by_its_address_until_it_is_known():
    assert Member("address").name == "address"
    assert a_member().name.startswith("null")


def test_one_that_was_set_aside_gets_jobs_after_a_trial_and_is_not_left_alone_then():
    member = a_member()
    assert member.trusted
    assert member.set_aside(0.0, LIMITS)
    assert not member.connected
    member.connection.made("address", NullDevice(load_target("null")))
    assert member.conduct.on_trial
    assert not member.trusted
    member.begins(Chunk([], Tally()))
    member.rests()
    member.passed()
    assert member.trusted
    assert not member.pause.lasts(1.0)
    assert member.pause.length_s == 4.0  # it has not measured yet: the next is longer


def test_one_that_measured_has_no_past():
    member = a_member()
    member.set_aside(0.0, LIMITS)
    member.begins(a_chunk())
    member.rests()
    member.passed()
    assert member.pause.length_s == 0.0


def test_what_it_worked_on_goes_back_and_nobody_waits_for_it():
    member, chunk = a_member(), a_chunk()
    member.begins(chunk)
    assert (member.chunk, member.has_tasks, member.at_work) == (chunk, True, True)
    member.rests()
    member.connection.drop()
    member.connection.missed(1.0)
    member.connection.missed(2.0)
    assert member.connection.missed_for(4.0) == 3.0
    assert [task.index for task in member.ends()] == [0]
    assert (member.chunk, member.has_tasks, member.connection.is_missed) == (None, False, False)
