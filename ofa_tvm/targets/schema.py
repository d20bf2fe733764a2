"""What a target file may say; docs/targets.md explains each key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ofa_tvm.addresses import split_address

_Milliseconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=1)]
_Feature = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]

_SSH_USER = re.compile(r"\w[\w.-]*")
_SCREENING_SAMPLES = 5


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceAccess(_Section):
    """How to reach the device.

    Attributes
    ----------
    kind
        ``local`` (an RPC server of our own on this host), ``rpc`` (a tracker), ``null`` (no device).
    key
        What the device's RPC server registers under at the tracker.
    tracker_host, tracker_port
        The tracker, where no other one is given to the command.
    ssh
        ``user@host[:port]`` of the board, which ``devices setup`` uses where no ``--ssh`` is given. Measuring does
        without it: that goes through the tracker.
    """

    kind: Literal["local", "rpc", "null"]
    key: str = Field(min_length=1, pattern=r"^[\w.-]+$")
    tracker_host: str = "127.0.0.1"
    tracker_port: int = Field(default=9190, ge=1, le=65535)
    ssh: str | None = None

    @field_validator("ssh")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        user, at, address = value.rpartition("@")
        try:
            if at and not _SSH_USER.fullmatch(user):
                raise ValueError(f"{user!r} is no user")
            split_address(address)
        except ValueError as error:
            raise ValueError(f"it takes user@host or user@host:port ({error})") from None
        return value

    @field_validator("tracker_host")
    @classmethod
    def _is_a_host(cls, value: str) -> str:
        """An IPv6 address may stand in brackets, as everywhere."""
        host, port = split_address(value)
        if port is not None:
            raise ValueError(f"it takes no port; write tracker_port: {port}")
        return host


class Cpu(_Section):
    """The device's CPU as its maker describes it; what isn't known is left out.

    Attributes
    ----------
    cores
        That the target is about: of two kinds of core, only those of the kind in ``mcpu``.
    max_clock_mhz
        The highest clock of the fastest version sold, without overclocking.
    l1d_kib, l2_kib
        The caches one core can use: its first-level data cache, and the second level, shared or not.
    features
        Names that ``/proc/cpuinfo`` of the device must list, as the Linux kernel spells them: not LLVM's names.
    """

    cores: _Count | None = None
    max_clock_mhz: _Count | None = None
    l1d_kib: _Count | None = None
    l2_kib: _Count | None = None
    features: tuple[_Feature, ...] = ()


class MeasurementProtocol(_Section):
    """How to measure on the device; `ofa_tvm.measurement.protocol` says what each number does.

    Attributes
    ----------
    warmup_runs
        Runs before the first sample.
    repeats
        Samples a measurement.
    min_repeat_ms
        A sample is the mean of as many runs as last this long. Short samples are the better ones on a host that
        does other things too, because most of them then fall between two interruptions.
    cooldown_ms
        Pause between two samples, for devices that throttle.
    max_drift
        Relative change of the reference kernel's time over a chunk of jobs that is still accepted.
    timeout_s
        A job that takes longer has failed.
    """

    warmup_runs: int = Field(default=3, ge=1)
    repeats: int = Field(default=25, ge=1)
    min_repeat_ms: _Milliseconds = 1.0
    cooldown_ms: _Milliseconds = 0.0
    max_drift: _Positive = 0.05
    timeout_s: _Positive = 30.0

    def screening(self) -> MeasurementProtocol:
        """The protocol with few samples: enough to tell which candidates are worth all of them."""
        return self.model_copy(update={"repeats": min(_SCREENING_SAMPLES, self.repeats)})


class Target(_Section):
    """A device as data.

    Attributes
    ----------
    name
        The file's name without its suffix.
    emulated
        Latencies measured or computed there say nothing about real hardware.
    tvm_target
        ``host`` for the machine that compiles, else TVM's target as a dict.
    cross_compiler
        The C++ compiler that links libraries for the device; None for the host's own.
    threads
        Threads a kernel may use on the device; not more than ``cpu.cores``.
    cpu
        What the device must have, and what kernels are fitted to.
    precisions
        Number formats that the device runs.
    sources
        Where the figures in this file come from, by the name of the field.
    """

    name: str = Field(min_length=1)
    description: str = Field(min_length=1)
    emulated: bool = False
    tvm_target: Literal["host"] | dict[str, Any]
    cross_compiler: str | None = None
    threads: int = Field(default=1, ge=1)
    cpu: Cpu = Cpu()
    device: DeviceAccess
    measurement: MeasurementProtocol = MeasurementProtocol()
    precisions: tuple[Literal["float32", "float16", "int8"], ...] = Field(default=("float32",), min_length=1)
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _counts_agree(self) -> Target:
        if self.cpu.cores is not None and self.threads > self.cpu.cores:
            raise ValueError(f"threads: {self.threads} is more than the {self.cpu.cores} of cpu.cores")
        if "num-cores" in self.tvm_target:
            raise ValueError(
                "tvm_target.num-cores: leave it out; threads says how many cores a kernel may use, cpu.cores how many "
                "there are"
            )
        return self


def missing_features(target: Target, cpu_features: Iterable[str]) -> list[str]:
    """What the target's file asks of a CPU that is not among the features its ``/proc/cpuinfo`` lists.

    `ofa_tvm.compiler.cpu_features.unsupported_features` says the same of what the compiler assumes.
    """
    offered = set(cpu_features)
    return [feature for feature in target.cpu.features if feature not in offered]
