"""A bundle's sample on a device of its target, over TVM RPC."""

from __future__ import annotations

import contextlib

import pytest

from ofa_tvm.bundle import verify_on_device as module
from ofa_tvm.bundle.verify_on_device import verify_on_device
from ofa_tvm.measurement.devices import cpu_model, open_farm
from ofa_tvm.measurement.member import Member
from ofa_tvm.measurement.null_device import NullDevice
from ofa_tvm.targets import load_target


@pytest.fixture(autouse=True)
def no_tracker_of_the_user(monkeypatch):
    monkeypatch.delenv("OFA_TVM_TRACKER", raising=False)


def test_the_device_that_ran_the_sample_is_named_not_all_that_were_seen(pristine, monkeypatch):
    @contextlib.contextmanager
    def with_another(*arguments):
        with open_farm(*arguments) as farm:
            another = Member("another board")
            another.connection.made("another board", NullDevice(load_target("null")))
            another.connection.drop()
            farm._crew.members.insert(0, another)
            yield farm

    monkeypatch.setattr(module, "open_farm", with_another)
    report = verify_on_device(pristine, load_target("local"), None, print)
    assert report.ran_on == f"local: {cpu_model()}"
    assert report.relative_error < 1e-6
