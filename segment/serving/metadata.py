"""The JSON document that a segmentation model carries: what it says, and the checks before it is believed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from streamdetect.model_file import Count, Document, Name, Sha256, check_created, read_document

METADATA_KEY = "segment"
SCHEMA_VERSION = 1
# No network that anyone serves needs more; memory grows with each of them.
MAX_OFFSET, MAX_STRIDE, MAX_HALO = 64, 256, 4096

Positive = Annotated[float, Field(gt=0, le=1e6)]
Percentile = Annotated[float, Field(ge=0, le=100)]
Slices = tuple[Count, Count]  # first, and one past the last


class Network(Document):
    """The shape of the network.

    Parameters
    ----------
    stem : int
        Side of the square of pixels that one position of the finest level stands for.
    width : int
        Feature maps at the finest level.
    depth : int
        Levels below the finest.
    """

    stem: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]
    depth: Count


class Training(Document):
    """Where a model comes from.

    Parameters
    ----------
    image, labels : str
        File names of the volume and of what is marked in it.
    image_sha256, labels_sha256 : str
        Their hashes.
    train_slices : tuple of (int, int)
        Runs of slices that were learnt from: first, and one past the last.
    validate_slices : (int, int) or None
        Slices that weights and threshold were chosen on.
    seed : int
        Seed of every random choice.
    steps : int
        Steps of the optimizer.
    seconds : float
        Time taken.
    batch : int
        Patches a step.
    patch_pixels : int
        Pixels of a patch.
    versions : dict of str to str
        Package versions.
    command : str
        What was typed; empty where there was no command.
    machine : str
        What it ran on, in words.
    start : str or None
        Name of the model that was tuned further.
    """

    image: Name
    image_sha256: Sha256
    labels: Name
    labels_sha256: Sha256
    train_slices: Annotated[tuple[Slices, ...], Field(min_length=1)]
    validate_slices: Slices | None = None
    seed: int
    steps: Count
    seconds: Annotated[float, Field(ge=0)]
    batch: Annotated[int, Field(ge=1)]
    patch_pixels: Annotated[int, Field(ge=1)]
    versions: dict[Name, str]
    command: str = ""
    machine: str = ""
    start: Name | None = None


class Conversion(Document):
    """How a trained network was made to compute with fewer bits, and what that costs.

    Parameters
    ----------
    precision : {"int8", "float16"}
        Of weights and of what is between the layers.
    source : str
        Name of the model that it was made from.
    source_sha256 : str
        Hash of that file.
    weight_bits : int
        Bits of a weight: 16, 8, or 7 of 8, which no processor's 8-bit arithmetic can overflow.
    calibrate_slices : tuple of (int, int)
        Slices that the ranges of values between the layers were taken from; none for float16.
    n_tiles : int
        Tiles of them that were looked at.
    validate_slices : (int, int)
        Slices that the two models were compared on.
    source_iou, iou : float
        Foreground IoU on these of the model that it was made from, and of this one.
    command : str
        What was typed; empty where there was no command.
    versions : dict of str to str
        Package versions.
    """

    precision: Literal["int8", "float16"]
    source: Name
    source_sha256: Sha256
    weight_bits: Annotated[int, Field(ge=1, le=16)]
    calibrate_slices: tuple[Slices, ...] = ()
    n_tiles: Count = 0
    validate_slices: Slices
    source_iou: Annotated[float, Field(ge=0, le=1)]
    iou: Annotated[float, Field(ge=0, le=1)]
    command: str = ""
    versions: dict[Name, str]


class ModelMetadata(Document):
    """The JSON document in a model file: all that is needed to run it, and where it comes from.

    Parameters
    ----------
    schema_version : int
        Always 1.
    name : str
        What a person calls the model.
    created : str
        ISO 8601 date and time.
    target : str
        What it finds, as in ``"mitochondria"``.
    voxel_nm : (float, float, float)
        Size in nm, (z, y, x), of the voxels that it was trained on.
    slice_offsets : tuple of int
        Slices that are fed as channels, relative to the one that is segmented: ascending, symmetric, with 0.
    stride : int
        Height and width of a tile are multiples of it.
    halo : int
        Pixels beyond a tile that change its probabilities, rounded up to the stride.
    percentiles : (float, float)
        Of the volume's intensities, 0 to 100, that become the graph's ``intensity``.
    axes : str
        The axes along which slices were cut for training: ``"zyx"`` or fewer of them.
    threshold : float
        Probability, 0 to 1, at or above which a voxel is foreground.
    network : Network
    training : Training
    scores : dict
        Scores on held-out slices, and the ``protocol`` that gave them; empty where there are none.
    conversion : Conversion or None
        Where the file holds fewer bits than were trained.
    """

    schema_version: Literal[1] = 1
    name: Name
    created: str
    target: Name
    voxel_nm: tuple[Positive, Positive, Positive]
    slice_offsets: Annotated[tuple[int, ...], Field(min_length=1)]
    stride: Annotated[int, Field(ge=1, le=MAX_STRIDE)]
    halo: Annotated[int, Field(ge=0, le=MAX_HALO)]
    percentiles: tuple[Percentile, Percentile] = (1.0, 99.0)
    axes: Annotated[str, Field(min_length=1, pattern="^z?y?x?$")]
    threshold: Annotated[float, Field(ge=0, le=1)]
    network: Network
    training: Training
    scores: dict[str, JsonValue] = Field(default_factory=dict)
    conversion: Conversion | None = None

    @model_validator(mode="after")
    def _check_fit(self) -> ModelMetadata:
        """Check what no field can know alone; each message starts with the field's name."""
        check_created(self.created)
        offsets = self.slice_offsets
        if list(offsets) != sorted({-offset for offset in offsets}) or len(offsets) % 2 == 0:
            raise ValueError(f"slice_offsets: expected ascending numbers as in (-2, 0, 2), found {offsets}")
        if offsets[-1] > MAX_OFFSET:
            raise ValueError(f"slice_offsets: expected at most {MAX_OFFSET}, found {offsets[-1]}")
        if self.halo % self.stride:
            raise ValueError(f"halo: expected a multiple of stride {self.stride}, found {self.halo}")
        if self.percentiles[0] >= self.percentiles[1]:
            raise ValueError(f"percentiles: expected the lower one first, found {self.percentiles}")
        for index, run in enumerate(self.training.train_slices):
            _check_slices(f"training.train_slices[{index}]", run)
        if self.training.validate_slices is not None:
            _check_slices("training.validate_slices", self.training.validate_slices)
        if self.conversion is not None:
            _check_slices("conversion.validate_slices", self.conversion.validate_slices)
        if self.scores and not isinstance(self.scores.get("protocol"), str):
            raise ValueError("scores.protocol: scores must say which protocol gave them")
        return self

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelMetadata:
        """Read the document, and refuse one that is not understood in full.

        Parameters
        ----------
        text : str or bytes
            JSON.

        Returns
        -------
        ModelMetadata

        Raises
        ------
        ModelError
            No JSON, a newer schema, or a field that is missing, unknown or out of range; one line that names it.
        """
        return read_document(cls, text, SCHEMA_VERSION)


def _check_slices(field: str, slices: Slices) -> None:
    if slices[0] >= slices[1]:
        raise ValueError(f"{field}: expected the first slice and one past the last, found {slices}")
