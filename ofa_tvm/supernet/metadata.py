"""What is known about a supernet besides its weights: space, classes, data, and how it came to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ofa_tvm.errors import InvalidArchitectureError, InvalidCheckpointError
from ofa_tvm.names import ClassNames, PlainName, nearest
from ofa_tvm.normalisation import Mean, Std
from ofa_tvm.schema_errors import first_fault
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.accuracy_files import AccuracyFiles, accuracy_files

DEFAULT_SUPERNET = "characters"
SHIPPED_FOLDER = Path(__file__).with_name("shipped")
METADATA_FILE = "supernet.json"
WEIGHTS_FILE = "weights.safetensors"

# A larger seed would run into a later block of a smaller one (`training.characters`).
_StreamSeed = Annotated[int, Field(ge=0, lt=1 << 32)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _search_space(content: dict[str, Any]) -> dict[str, Any]:
    try:
        return SearchSpace.from_dict(content).to_dict()
    except InvalidArchitectureError as error:
        raise ValueError(str(error)) from error


class DataDescription(_Strict):
    """Where images for BN calibration and for measuring accuracy come from."""

    kind: Literal["characters"]
    calibration_seed: _StreamSeed
    held_out_seed: _StreamSeed

    @model_validator(mode="after")
    def _calibrated_on_other_images(self) -> DataDescription:
        if self.calibration_seed == self.held_out_seed:
            raise ValueError(f"seed {self.held_out_seed} gives the held-out images and those of calibration alike")
        return self


class PhaseRecord(_Strict):
    """One phase of training as it was run."""

    name: str
    steps: int
    learning_rate: float
    subnets_per_step: int


class TrainingRecord(_Strict):
    """How the weights came to be."""

    command: str
    seed: int
    batch_size: int
    phases: tuple[PhaseRecord, ...]
    finished: str
    versions: dict[str, str]


class SupernetDescription(_Strict):
    """What whoever trained a supernet says about it.

    Attributes
    ----------
    class_names
        In the order of the logits.
    mean, std
        Of the input, a channel (RGB), on values scaled to [0, 1].
    """

    name: PlainName
    class_names: ClassNames
    mean: tuple[Mean, Mean, Mean]
    std: tuple[Std, Std, Std]
    data: DataDescription
    training: TrainingRecord


class SupernetMetadata(SupernetDescription):
    """Content of ``supernet.json``.

    Attributes
    ----------
    weights_sha256
        Of ``weights.safetensors``.
    """

    format: Literal[1]
    search_space: Annotated[dict[str, Any], AfterValidator(_search_space)]
    weights_sha256: str

    @model_validator(mode="after")
    def _one_name_a_class(self) -> SupernetMetadata:
        if len(self.class_names) != self.space.num_classes:
            raise ValueError(f"{len(self.class_names)} class names for {self.space.num_classes} classes")
        return self

    @property
    def space(self) -> SearchSpace:
        """The search space that the supernet was trained for."""
        return SearchSpace.from_dict(self.search_space)


@dataclass(frozen=True)
class SupernetFolder:
    """A supernet on disk: ``supernet.json``, ``weights.safetensors``, accuracy records and predictor.

    Attributes
    ----------
    shipped
        Found by the name of one that comes with the package, whose folder is not the user's to write to.
    """

    path: Path
    metadata: SupernetMetadata
    shipped: bool = False

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.path / WEIGHTS_FILE

    @property
    def label(self) -> str:
        """What ``--supernet`` takes for it."""
        return self.metadata.name if self.shipped else str(self.path)

    def accuracy_files(self, runs: Path) -> AccuracyFiles:
        """Where its accuracy records and predictors are: those it came with and, below `runs`, the user's own."""
        return accuracy_files(self.path, self.shipped, runs, self.metadata.name)


def shipped_supernets() -> list[str]:
    """Names of the supernets that come with the package."""
    return sorted(path.parent.name for path in SHIPPED_FOLDER.glob(f"*/{METADATA_FILE}"))


def find_supernet(name_or_path: str) -> SupernetFolder:
    """The supernet of a shipped name, or in a folder.

    Raises
    ------
    InvalidCheckpointError
        There is none, or its metadata is damaged.
    """
    known = shipped_supernets()
    shipped = name_or_path in known
    folder = SHIPPED_FOLDER / name_or_path if shipped else Path(name_or_path)
    try:
        content = (folder / METADATA_FILE).read_bytes()
    except OSError as error:
        hint = nearest(name_or_path, known) or ";"
        choices = " or ".join([*known, f"a folder with {METADATA_FILE}"])
        raise InvalidCheckpointError(f"no supernet {name_or_path!r}{hint} name {choices}") from error
    try:
        return SupernetFolder(folder, SupernetMetadata.model_validate_json(content), shipped)
    except ValidationError as error:
        raise InvalidCheckpointError(f"{folder / METADATA_FILE}: {first_fault(error)}") from error
