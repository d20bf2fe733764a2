"""What a device says about itself, if its RPC server can tell."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

INFO_FUNCTION = "ofa_tvm.device_info"


def _printable(text: str) -> str:
    """One line: it goes into records and messages."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


_Text = Annotated[str, AfterValidator(_printable)]


class DeviceInfo(BaseModel):
    """The answer of the RPC function `INFO_FUNCTION`; None where the device does not know.

    Unknown keys are ignored, for a server may be newer than this.

    Attributes
    ----------
    id
        Of the board, always the same, and of no other.
    server
        ``python`` or ``native``.
    cpu_features
        By the kernel's names.
    temperature_c
        Of the hottest part.
    versions
        Of what runs there, by name.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)

    id: _Text | None = None
    server: _Text | None = None
    hostname: _Text | None = None
    system: _Text | None = None
    machine: _Text | None = None
    cpu_model: _Text | None = None
    cpu_features: tuple[str, ...] | None = None
    cores: int | None = None
    memory_total_mib: int | None = None
    memory_available_mib: int | None = None
    temperature_c: float | None = None
    governor: _Text | None = None
    clock_mhz: int | None = None
    max_clock_mhz: int | None = None
    emulated: bool | None = None
    versions: dict[_Text, _Text | None] | None = Field(default=None)

    @classmethod
    def parse(cls, text: str) -> DeviceInfo | None:
        """From JSON; None if it is nothing of the kind."""
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            return None

    @property
    def device_versions(self) -> dict[str, str]:
        """`versions` as they stand in records, beside those of the host."""
        return {f"device {name}": version for name, version in (self.versions or {}).items() if version}
