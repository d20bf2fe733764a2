"""The tree of errors, and the exit code of each branch.

::

    OfaTvmError                      1  a bug of ours, if nothing more precise fits
    ├── UsageError                   2  the user's input is wrong
    │   ├── UnknownTargetError          no such target
    │   ├── InvalidTargetError          a target's YAML does not fit the schema
    │   ├── InvalidArchitectureError    an architecture outside the search space
    │   ├── InvalidCheckpointError      a supernet that is missing, damaged or foreign
    │   ├── InvalidRecordError          a record file that is damaged before its last line
    │   ├── InvalidBundleError          a bundle that is missing, damaged or altered
    │   ├── InvalidImageError           an image that is none
    │   ├── HostKeyError                a board's SSH host key is unknown, or has changed
    │   └── OutputError                 the output directory is full, read-only or taken
    ├── DeviceError                  3  no device
    │   ├── TrackerUnreachableError     no RPC tracker answers
    │   ├── DeviceUnavailableError      the tracker has no (free) device with this key
    │   ├── BoardUnreachableError       a board can't be reached over SSH, or refuses to let us in
    │   ├── BoardSetUpError             a board can't be set up, or its RPC server does not start
    │   └── EmulationError              an emulated board can't be built or started here
    ├── InfeasibleBudgetError        4  no subnet meets the latency budget
    └── StageError                   5  a stage failed
        ├── CompileError                lowering or code generation failed
        ├── NumericalMismatchError      a stage's outputs differ from those of the stage before
        └── MeasurementError            a measurement failed, timed out or drifted

A message carries the values and the next step to take. A user's mistake is shown as this one
line, without a traceback. An interruption (Ctrl-C) exits with 130 and is no error of this tree.
"""

from __future__ import annotations

EXIT_INTERRUPTED = 130


class OfaTvmError(Exception):
    """Root of all errors this package raises on purpose."""

    exit_code = 1


class UsageError(OfaTvmError):
    """The user's input is wrong."""

    exit_code = 2


class UnknownTargetError(UsageError):
    """No target has this name."""


class InvalidTargetError(UsageError):
    """A target's YAML is malformed or does not fit the schema."""


class InvalidArchitectureError(UsageError, ValueError):
    """An architecture lies outside the search space."""


class InvalidCheckpointError(UsageError):
    """A supernet checkpoint is missing, damaged, or of another search space."""


class InvalidRecordError(UsageError):
    """A record file is damaged somewhere before its last line."""


class InvalidBundleError(UsageError):
    """A bundle is missing, damaged, or altered since it was written."""


class InvalidImageError(UsageError):
    """A file that should be an image is not one."""


class HostKeyError(UsageError):
    """A board's SSH host key is unknown, or is not the one known."""


class OutputError(UsageError):
    """The output directory can't be written."""


class DeviceError(OfaTvmError):
    """No device to measure on."""

    exit_code = 3


class TrackerUnreachableError(DeviceError):
    """No RPC tracker answers at the address."""


class DeviceUnavailableError(DeviceError):
    """The tracker has no free device with the requested key."""


class BoardUnreachableError(DeviceError):
    """A board can't be reached over SSH, or refuses to let us in."""


class BoardSetUpError(DeviceError):
    """A board can't be set up, or its RPC server does not start."""


class EmulationError(DeviceError):
    """An emulated board can't be built or started on this host."""


class InfeasibleBudgetError(OfaTvmError):
    """No subnet of the search space meets the latency budget."""

    exit_code = 4


class StageError(OfaTvmError):
    """A stage between subnet and library failed."""

    exit_code = 5


class CompileError(StageError):
    """Lowering or code generation failed."""


class NumericalMismatchError(StageError):
    """The outputs of one stage differ from those of the stage before it."""


class MeasurementError(StageError):
    """A measurement failed, took too long, or the device drifted."""
