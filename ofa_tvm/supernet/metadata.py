"""What is known about a supernet besides its weights: space, classes, data, and how it came to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from ofa_tvm.errors import InvalidArchitectureError, InvalidCheckpointError
from ofa_tvm.names import ClassNames, PlainName, nearest
from ofa_tvm.schema_errors import first_fault
from ofa_tvm.space.search_space import SearchSpace

DEFAULT_SUPERNET = "characters"
SHIPPED_FOLDER = Path(__file__).with_name("shipped")
METADATA_FILE = "supernet.json"
WEIGHTS_FILE = "weights.safetensors"
ACCURACY_RECORDS_FILE = "accuracy.jsonl"
ACCURACY_PREDICTOR_FOLDER = "accuracy_predictor"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _search_space(content: dict[str, Any]) -> dict[str, Any]:
    try:
        return SearchSpace.from_dict(content).to_dict()
    except InvalidArchitectureError as error:
        raise ValueError(str(error)) from error


class DataDescription(_Strict):
    """Where images for BN calibration and for measuring accuracy come from."""

    kind: Literal["characters"]
    calibration_seed: int
    held_out_seed: int


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
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
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
    """A supernet on disk: ``supernet.json``, ``weights.safetensors``, accuracy records and predictor."""

    path: Path
    metadata: SupernetMetadata

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.path / WEIGHTS_FILE

    @property
    def accuracy_records(self) -> Path:
        """JSON Lines, one measured subnet a line."""
        return self.path / ACCURACY_RECORDS_FILE

    @property
    def accuracy_predictor(self) -> Path:
        """Folder of the trained accuracy predictor."""
        return self.path / ACCURACY_PREDICTOR_FOLDER


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
    folder = SHIPPED_FOLDER / name_or_path if name_or_path in known else Path(name_or_path)
    try:
        content = (folder / METADATA_FILE).read_bytes()
    except OSError as error:
        hint = nearest(name_or_path, known) or ";"
        choices = " or ".join([*known, f"a folder with {METADATA_FILE}"])
        raise InvalidCheckpointError(f"no supernet {name_or_path!r}{hint} name {choices}") from error
    try:
        return SupernetFolder(folder, SupernetMetadata.model_validate_json(content))
    except ValidationError as error:
        raise InvalidCheckpointError(f"{folder / METADATA_FILE}: {first_fault(error)}") from error
