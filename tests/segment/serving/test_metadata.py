import json

import pytest

from networks import make_segment_metadata
from segment.serving.metadata import Conversion, ModelMetadata
from streamdetect.errors import ModelError

CONVERSION = Conversion(
    precision="int8",
    source="mito",
    source_sha256="0" * 64,
    weight_bits=7,
    calibrate_slices=((0, 98),),
    n_tiles=16,
    validate_slices=(105, 125),
    source_iou=0.9,
    iou=0.89,
    versions={"onnxruntime": "1"},
)


@pytest.mark.parametrize("conversion", [None, CONVERSION])
def test_metadata_survives_json(conversion):
    scores = {"protocol": "held-out slices", "test": {"iou": 0.9, "note": None}}
    metadata = make_segment_metadata(scores=scores, conversion=conversion)
    assert ModelMetadata.from_json(metadata.to_json()) == metadata


def _at(*path, value):
    def change(document):
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


NONSENSE = [
    (_at("surprise", value=1), "surprise"),
    (_at("created", value="yesterday"), "created"),
    (_at("target", value=""), "target"),
    (_at("voxel_nm", value=[5.0, 5.0]), r"voxel_nm\[2\]"),
    (_at("voxel_nm", 1, value=0), r"voxel_nm\[1\]"),
    (_at("voxel_nm", 1, value=float("inf")), "Infinity"),
    (_at("slice_offsets", value=[]), "slice_offsets"),
    (_at("slice_offsets", value=[-1, 1]), "slice_offsets"),
    (_at("slice_offsets", value=[0, 1, 2]), "slice_offsets"),
    (_at("slice_offsets", value=[1, 0, -1]), "slice_offsets"),
    (_at("slice_offsets", value=[-1000, 0, 1000]), "slice_offsets: expected at most 64"),
    (_at("stride", value=0), "stride"),
    (_at("stride", value=4.5), "stride"),
    (_at("halo", value=13), "halo: expected a multiple of stride 4, found 13"),
    (_at("halo", value=-4), "halo"),
    (_at("percentiles", value=[99, 1]), "percentiles"),
    (_at("percentiles", 1, value=101), r"percentiles\[1\]"),
    (_at("axes", value="xyz"), "axes"),
    (_at("axes", value=""), "axes"),
    (_at("threshold", value=1.5), "threshold"),
    (_at("threshold", value="0.5"), "threshold"),
    (_at("network", "width", value=0), r"network\.width"),
    (_at("training", "image_sha256", value="abc"), r"training\.image_sha256"),
    (_at("training", "train_slices", value=[]), r"training\.train_slices"),
    (_at("training", "train_slices", 0, value=[5, 5]), r"training\.train_slices\[0\]"),
    (_at("training", "validate_slices", value=[9, 5]), r"training\.validate_slices"),
    (_at("scores", value={"iou": 0.7}), r"scores\.protocol"),
    (_at("conversion", value={"precision": "int4"}), r"conversion\.precision"),
    (_at("conversion", value=CONVERSION.model_dump() | {"iou": 1.5}), r"conversion\.iou"),
    (_at("conversion", value=CONVERSION.model_dump() | {"validate_slices": [5, 5]}), r"conversion\.validate_slices"),
]


@pytest.mark.parametrize(("change", "message"), NONSENSE, ids=[message for _, message in NONSENSE])
def test_nonsense_is_refused_in_one_line_that_names_the_field(change, message):
    document = json.loads(make_segment_metadata().to_json())
    change(document)
    with pytest.raises(ModelError, match=message) as caught:
        ModelMetadata.from_json(json.dumps(document))
    assert "\n" not in str(caught.value)


def test_a_newer_schema_asks_for_an_upgrade():
    document = json.loads(make_segment_metadata().to_json()) | {"schema_version": 2, "new_field": 1}
    with pytest.raises(ModelError, match=r"newer streamdetect .* upgrade with pip install -U streamdetect"):
        ModelMetadata.from_json(json.dumps(document))
