"""Measurement: run libraries on a device over TVM RPC, time them by one protocol, keep append-only records.

`devices.open_device` gives a `device.Device` for a target; `protocol.measure_many` times `job` after `job` on it
between two runs of a reference kernel; `records.RecordStore` keeps what came out, so that nothing is measured twice.
"""
