"""Measurement: run libraries on devices over TVM RPC, time them by one protocol, keep append-only records.

`devices.open_farm` gives a `farm.Farm` for a target: all its devices at once, found by a `sources.DeviceSource`. A
`run.Run` shares `job` after `job` out among them in a `chunk.Chunk` each, between two runs of a reference kernel;
`crew.Crew` knows which devices are there and which are set aside, `judgement.Judge` whose fault it was; what is known
of one device is a `member.Member`: its connection, its conduct, its pace, and its pause.
`records.RecordStore` keeps what came out, so that nothing is measured twice.
"""
