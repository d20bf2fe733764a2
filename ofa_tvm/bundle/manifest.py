"""The manifest: what a bundle is, how its input is made, what was predicted and measured. A file's schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ofa_tvm.errors import InvalidBundleError
from ofa_tvm.names import ClassNames, PrintableText
from ofa_tvm.normalisation import Mean, Std
from ofa_tvm.schema_errors import first_fault
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace

FORMAT_VERSION: Literal[1] = 1
MANIFEST = "manifest.json"
LIBRARY = "library.so"
SAMPLE_INPUT = "sample_input.npy"
SAMPLE_OUTPUT = "sample_output.npy"
SAMPLE_IMAGE = "sample_image.png"
README = "README.md"
CHECKSUMS = "SHA256SUMS"
THREADS = "num-cores"
"""TVM's name, among a target's options, for how many threads the kernels share their work."""

_MOST_THREADS = 1024

_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Size = Annotated[int, Field(ge=1)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Fraction = Annotated[float, Field(ge=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetSection(_Section):
    """What the library was compiled for.

    Attributes
    ----------
    tvm_target
        TVM's target with ``host`` resolved: kind, num-cores, mtriple, mcpu, mattr.
    cpu_features
        Vector extensions that the library may use, in LLVM's names (`ofa_tvm.bundle.host`).
    """

    name: PrintableText
    tvm_target: dict[PrintableText, int | PrintableText | tuple[PrintableText, ...]]
    cpu_features: tuple[PrintableText, ...]
    emulated: bool

    @model_validator(mode="after")
    def _has_threads(self) -> Self:
        threads = self.tvm_target.get(THREADS, 1)
        if not isinstance(threads, int) or not 1 <= threads <= _MOST_THREADS:
            raise ValueError(f"{THREADS} is {threads!r}, not a number of threads from 1 to {_MOST_THREADS}")
        return self

    @property
    def threads(self) -> int:
        """How many threads the library's kernels share their work among."""
        return int(cast(int, self.tvm_target.get(THREADS, 1)))


class SupernetSection(_Section):
    """Which supernet the subnet's weights come from."""

    name: PrintableText
    weights_sha256: _Digest


class InputSection(_Section):
    """How an image becomes the library's input.

    Resize to the shape's height and width, scale 0..255 to `value_range`, then ``(value - mean) / std`` per colour.

    Attributes
    ----------
    shape
        ``(1, 3, height, width)``.
    """

    name: PrintableText
    shape: tuple[Literal[1], Literal[3], _Size, _Size]
    dtype: Literal["float32"] = "float32"
    layout: Literal["NCHW"] = "NCHW"
    colour_order: Literal["RGB"] = "RGB"
    resize: Literal["bilinear"] = "bilinear"
    value_range: tuple[Mean, Mean] = (0.0, 1.0)
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Std, Std, Std]


class OutputSection(_Section):
    """What the library returns.

    Attributes
    ----------
    shape
        ``(1, classes)``.
    """

    name: PrintableText
    shape: tuple[Literal[1], _Size]
    dtype: Literal["float32"] = "float32"
    meaning: Literal["logits"] = "logits"


class MeasuredLatency(_Section):
    """A measurement of this very library on the device.

    Attributes
    ----------
    spread
        Interquartile range of the samples over their median.
    drift
        Relative change of the reference kernel's time from before to after.
    """

    median_ms: _Positive
    spread: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    drift: _Finite
    samples_ms: Annotated[tuple[_Positive, ...], Field(min_length=1)]
    device: PrintableText
    emulated: bool


class LatencySection(_Section):
    """The latency budget, the prediction and the measurement, in milliseconds."""

    budget_ms: _Positive
    predicted_ms: _Positive
    measured: MeasuredLatency


class AccuracySection(_Section):
    """Top-1 accuracy as fractions: predicted, and measured on so many images."""

    predicted: _Fraction
    measured: _Fraction
    images: _Size


class FileSection(_Section):
    """A file's digest and size."""

    sha256: _Digest
    bytes: Annotated[int, Field(ge=0)]


class Contents(_Section):
    """All that deploy knows about the bundle; `write_bundle` adds the rest.

    Attributes
    ----------
    architecture, search_space
        As their ``to_dict`` gives them.
    tolerance
        Largest relative error at which the sample output counts as reproduced.
    """

    target: TargetSection
    architecture: dict[str, Any]
    search_space: dict[str, Any]
    supernet: SupernetSection
    input: InputSection
    output: OutputSection
    class_names: ClassNames
    latency: LatencySection
    accuracy: AccuracySection
    tolerance: _Positive = 1e-4

    @model_validator(mode="after")
    def _agree(self) -> Self:
        architecture = Architecture.from_dict(self.architecture)
        SearchSpace.from_dict(self.search_space).check(architecture)
        if self.input.shape[2:] != (architecture.resolution, architecture.resolution):
            raise ValueError(f"input shape {self.input.shape} for an architecture of {architecture.resolution} pixels")
        if len(self.class_names) != self.output.shape[1]:
            raise ValueError(f"{len(self.class_names)} class names for {self.output.shape[1]} outputs")
        return self


class Manifest(Contents):
    """The whole manifest, as in ``manifest.json``.

    Attributes
    ----------
    versions
        Of tvm, tvm_ffi, python, numpy and ofa_tvm when the bundle was written.
    files
        All files of the bundle but the manifest and the checksums, by their path inside it.
    """

    format_version: Literal[1]
    created: AwareDatetime
    versions: dict[PrintableText, PrintableText]
    files: dict[PrintableText, FileSection]


def read_manifest(directory: Path) -> Manifest:
    """Read a bundle's manifest.

    Raises
    ------
    InvalidBundleError
        There is none, or it does not fit the schema; the message names the first key that doesn't.
    """
    path = directory / MANIFEST
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidBundleError(f"{directory} is no bundle: it has no {MANIFEST}; deploy writes bundles") from error
    except OSError as error:
        raise InvalidBundleError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise InvalidBundleError(f"{path}: {first_fault(error)}; write the bundle again") from error
