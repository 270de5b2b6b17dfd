import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import make_data, make_metadata, make_model
from streamdetect import model_file as model_file_module
from streamdetect.errors import ModelError
from streamdetect.settings import ChannelHealthSettings, FeatureSettings, FilterSettings, HealthSettings, PowerSettings
from streamdetect.stages.model import Model, ModelMetadata, name_features, predict_together


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "tiny.onnx", n_events=2, n_trees=20)


@pytest.fixture(scope="module")
def model(model_file):
    return Model.load(model_file)


def _rewrite(model_file, path, change):
    """Copy a model file with its metadata changed."""
    graph = onnx.load(model_file)
    document = json.loads(graph.metadata_props[0].value)
    change(document)
    graph.metadata_props[0].value = json.dumps(document)
    onnx.save(graph, path)
    return path


# --- running


def test_predict_gives_probabilities_of_vote_and_members(model):
    found = model.predict(make_data(3)[0])
    assert list(found) == ["probability", "lda", "rf", "lr"]
    for values in found.values():
        assert values.shape == (400, 2)
        assert values.dtype == np.float32
    mean = (found["lda"] + found["rf"] + found["lr"]) / 3
    np.testing.assert_allclose(found["probability"], mean, atol=1e-6)  # three roundings to float32


def test_a_row_does_not_depend_on_how_rows_are_cut(model):
    X = make_data(3, n_rows=500, seed=3)[0]
    whole = model.predict(X)
    rng = np.random.default_rng(5)
    for _ in range(5):
        cuts = np.sort(rng.integers(0, len(X) + 1, size=60))  # repeated cuts give blocks of no rows
        blocks = [model.predict(part) for part in np.split(X, cuts)]
        for name, values in whole.items():
            np.testing.assert_array_equal(np.concatenate([block[name] for block in blocks]), values)


def test_models_that_run_together_give_what_each_gives_alone(model, model_file):
    rows = make_data(3)[0]
    other = Model.load(model_file)
    requests = [(model, rows[:1]), (other, rows[1:4]), (model, rows[4:4]), (model, rows[5:75]), (other, rows[80:81])]
    for found, (asked, features) in zip(predict_together(requests), requests, strict=True):
        alone = asked.predict(features)
        assert list(found) == list(alone)
        for name, values in alone.items():
            np.testing.assert_array_equal(found[name], values)


def test_models_that_run_together_run_once_for_all_rows(model, monkeypatch):
    seen = []
    predict = Model.predict
    monkeypatch.setattr(Model, "predict", lambda self, features: seen.append(len(features)) or predict(self, features))
    rows = make_data(3)[0]
    predict_together([(model, rows[:2]), (model, rows[2:3]), (model, rows[3:7])])
    assert seen == [7]


def test_no_batch_of_one_and_none_above_64_reaches_onnx_runtime(model, monkeypatch):
    sizes = []
    run, run_bound = model._session.run, model._session.run_with_iobinding

    class Spy:
        def run(self, outputs, inputs):
            sizes.append(len(inputs["features"]))
            return run(outputs, inputs)

        def run_with_iobinding(self, binding):
            sizes.append(len(model._pair))
            return run_bound(binding)

    monkeypatch.setattr(model, "_session", Spy())
    for n_rows in (1, 2, 64, 65, 129):
        assert len(model.predict(np.zeros((n_rows, 3), np.float32))["lr"]) == n_rows
    assert min(sizes) == 2
    assert max(sizes) == 64


def test_where_batches_differ_every_row_runs_in_a_pair(model_file, monkeypatch, caplog):
    honest = Model._run

    def dependent(self, features):
        values = honest(self, features)
        return values if len(features) <= 2 else [np.nextafter(one, np.float32(0.5)) for one in values]

    monkeypatch.setattr(Model, "_run", dependent)
    model = Model.load(model_file)
    assert "depends on the batch" in caplog.text
    X = make_data(3, n_rows=7)[0]
    joined = np.concatenate([model.predict(X[i : i + 1])["probability"] for i in range(7)])
    np.testing.assert_array_equal(model.predict(X)["probability"], joined)


def test_no_rows_give_no_rows(model):
    assert {values.shape for values in model.predict(np.empty((0, 3), np.float32)).values()} == {(0, 2)}


def test_input_may_be_non_contiguous_and_stays_untouched(model):
    X = make_data(6)[0][:, ::2]
    before = X.copy()
    np.testing.assert_array_equal(model.predict(X)["rf"], model.predict(before)["rf"])
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    "features", [np.zeros((2, 4), np.float32), np.zeros(3, np.float32), np.zeros((2, 3))], ids=["wide", "1d", "float64"]
)
def test_other_shapes_and_types_are_refused(model, features):
    with pytest.raises(ModelError, match="features: expected float32"):
        model.predict(features)


# --- finding and loading


def test_a_shipped_model_is_found_by_name(model_file, monkeypatch, tmp_path):
    monkeypatch.setattr(model_file_module, "SHIPPED", (tmp_path, model_file.parent))
    assert Model.load("tiny").sha256 == Model.load("tiny.onnx").sha256 == Model.load(model_file).sha256
    with pytest.raises(ModelError, match=r"shipped: tiny"):
        Model.load("big")


def test_loading_needs_no_training_library_nor_mne(model_file):
    script = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"sklearn", "skl2onnx", "onnx", "skops", "mne", "pylsl", "tensorflow", "scipy"}:
            raise ImportError(f"blocked: {name}")
sys.meta_path.insert(0, Blocker())
import numpy as np
from streamdetect.stages.model import Model
print(Model.load(sys.argv[1]).predict(np.zeros((1, 3), np.float32))["probability"].shape)
"""
    done = subprocess.run([sys.executable, "-c", script, model_file], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("(1, 2)", "")


def test_files_that_are_no_model_are_refused(tmp_path, model_file):
    with pytest.raises(ModelError, match="cannot be read"):
        Model.load(tmp_path)
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ModelError, match=r"text\.onnx: ONNX Runtime cannot load it"):
        Model.load(tmp_path / "text.onnx")
    graph = onnx.load(model_file)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "foreign.onnx")
    with pytest.raises(ModelError, match="not a streamdetect model"):
        Model.load(tmp_path / "foreign.onnx")


def _rename_output(graph):
    graph.graph.output[1].name = "svm"
    graph.graph.node.append(helper.make_node("Identity", ["lda"], ["svm"]))


def _rename_input(graph):
    graph.graph.input[0].name = "x"
    graph.graph.node.insert(0, helper.make_node("Identity", ["x"], ["features"]))


def _declare_more_features(graph):
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "any"


def _fix_the_batch(graph):
    for value in [*graph.graph.input, *graph.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 2


def _give_log_odds(graph):
    next(node for node in graph.graph.node if node.output[0] == "lr").output[0] = "lr_raw"
    graph.graph.initializer.append(helper.make_tensor("nine", TensorProto.FLOAT, [], [9.0]))
    graph.graph.node.append(helper.make_node("Mul", ["lr_raw", "nine"], ["lr"]))


def _give_maps(graph):
    next(node for node in graph.graph.node if node.output[0] == "lr").output[0] = "lr_raw"
    zipmap = helper.make_node("ZipMap", ["lr_raw"], ["lr"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    graph.graph.node.append(zipmap)
    maps = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    next(out for out in graph.graph.output if out.name == "lr").type.CopyFrom(helper.make_sequence_type_proto(maps))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_give_maps, r"lr must be tensor\(float\)"),
        (_rename_output, "expected the outputs probability, lda, rf, lr"),
        (_rename_input, "expected one input, features"),
        (_declare_more_features, r"features must be tensor\(float\) of shape \(n, 3\)"),
        (_fix_the_batch, "must be tensor"),
        (_give_log_odds, "output lr: expected probabilities"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(model_file, tmp_path, change, message):
    graph = onnx.load(model_file)
    change(graph)
    onnx.save(graph, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match=message):
        Model.load(tmp_path / "other.onnx")


# --- metadata


def test_metadata_survives_the_file(model):
    changes = {
        "scores": {"protocol": "held-out", "mean": {"auc": 0.7, "lag_s": None}, "n_windows": 3},
        "patterns": {"lda": {"HandStart": (1.0, -2.0, 0.5)}},
        "clock": {"bin_s": 1.0, "rates": {"HandStart": (0.0, 0.25)}},
    }
    metadata = make_metadata(**changes)
    assert ModelMetadata.from_json(metadata.to_json()) == metadata
    assert model.metadata.event_names == ("HandStart", "LiftOff")


def test_channel_rules_survive_the_file():
    rules = ChannelHealthSettings(250, 1, (None, (0.0, 0.0, 1.0), (0.6, 0.0, 0.8)))
    metadata = make_metadata(health=HealthSettings(250, 500, rules))
    assert ModelMetadata.from_json(metadata.to_json()) == metadata


def test_a_file_from_before_there_were_channel_rules_has_none():
    document = json.loads(make_metadata().to_json())
    del document["health"]["channels"]
    assert ModelMetadata.from_json(json.dumps(document)) == make_metadata()


def _at(*path, value):
    def change(document):
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


def _rules(**changes):
    return {"block_samples": 250, "max_repaired": 1, "positions": [None, [0, 0, 1], [0.6, 0, 0.8]]} | changes


NONSENSE = [
    (_at("surprise", value=1), "surprise"),
    (_at("sfreq", value=0), "sfreq"),
    (_at("sfreq", value=float("inf")), "Infinity"),
    (_at("sfreq", value="250"), "sfreq"),
    (_at("created", value="yesterday"), "created"),
    (_at("ch_names", value=["C3", "Cz", "C3"]), "ch_names: 'C3'"),
    (_at("ch_names", value=[]), "ch_names"),
    (_at("features", "blocks", 0, "reference", value="nose"), r"features\.blocks\[0\].*reference"),
    (_at("features", "blocks", 0, "reference", value="laplacian"), "neighbours go with the laplacian"),
    (_at("features", "blocks", 0, "kind", value="fourier"), r"features\.blocks\[0\]"),
    (_at("features", "neighbours", value=[[1], [0], [2]]), "neighbours"),
    (_at("features", "normaliser", value={"time_constant_s": 30.0}), "normaliser: expected a mean of 3"),
    (_at("features", "normaliser", value={"time_constant_s": 0.0}), "time_constant_s"),
    (_at("feature_names", value=["0-30 Hz C3"]), "feature_names: expected 3"),
    (_at("feature_names", 1, value="0-30 Hz C4"), r"feature_names\[1\]"),
    (_at("features", "blocks", 0, "window_samples", value=0), "window_samples"),
    (_at("features", "hop_samples", value=2.5), r"features\.hop_samples"),
    (_at("features", "blocks", 0, "filters", 0, "h_freq", value=125.0), r"features\.blocks\[0\]\.filters\[0\]"),
    (_at("features", "blocks", 0, "filters", 0, "phase", value="zero"), r"filters\[0\]\.phase"),
    (_at("health", "max_gap_samples", value=-1), "health"),
    (_at("health", "channels", value=_rules(positions=[[0, 0, 1]])), r"health\.channels\.positions: expected 3"),
    (_at("health", "channels", value=_rules(positions=[[0, 0, 0], None, None])), "a direction needs a length"),
    (_at("health", "channels", value=_rules(positions=[[0, 1], None, None])), r"channels\.positions\[0\]"),
    (
        _at("health", "channels", value=_rules(block_samples=62)),
        r"block_samples: expected at least 0.25 s, found 0.248",
    ),
    (_at("health", "channels", value=_rules(block_samples=10**7)), "longer than 3600 s"),
    (_at("health", "channels", value=_rules(max_repaired=-1)), "max_repaired must not be negative"),
    (_at("health", "channels", value=_rules(block_samples=0)), "block_samples must be at least 1"),
    (_at("health", "channels", value=_rules(muscle=False)), r"health\.channels\.muscle"),
    (_at("events", value=[]), "events"),
    (_at("decisions", 0, "threshold", value=float("nan")), "NaN"),
    (_at("decisions", 0, "threshold", value=1.5), r"decisions\[0\]: threshold must be 0 to 1"),
    (_at("decisions", value=[]), "decisions: expected 1"),
    (_at("members", value=["lda", "rf", "rf"]), "members: 'rf'"),
    (_at("members", value=["probability"]), "members"),
    (_at("training", "recordings", 0, "sha256", value="abc"), r"training\.recordings\[0\]\.sha256"),
    (_at("training", "recordings", 0, "n_positive", value={"Other": 1}), "'Other' is unknown"),
    (_at("training", "stride_samples", value=0), r"training\.stride_samples"),
    (_at("scores", value={"auc": 0.7}), r"scores\.protocol"),
    (_at("scores", value={"protocol": "held-out", "auc": float("nan")}), "NaN"),
    (_at("patterns", value={"svm": {}}), "patterns: 'svm'"),
    (_at("patterns", value={"lda": {"HandStart": [1.0]}}), r"patterns\.lda\.HandStart: expected 3"),
    (_at("clock", value={"bin_s": 0.0, "rates": {}}), r"clock\.bin_s"),
    (_at("clock", value={"rates": {"HandStart": [1.5]}}), r"clock\.rates\.HandStart\[0\]"),
]


@pytest.mark.parametrize(("change", "message"), NONSENSE, ids=[message for _, message in NONSENSE])
def test_nonsense_is_refused_in_one_line_that_names_the_field(change, message):
    document = json.loads(make_metadata().to_json())
    change(document)
    with pytest.raises(ModelError, match=message) as caught:
        ModelMetadata.from_json(json.dumps(document))
    assert "\n" not in str(caught.value)


def test_metadata_made_in_python_may_hold_no_nan():
    with pytest.raises(ValueError, match="finite"):
        make_metadata(scores={"protocol": "held-out", "auc": float("nan")})
    bank = (FilterSettings(None, float("nan")),)
    features = FeatureSettings("power", (PowerSettings(bank, window_samples=50, log=True),), hop_samples=5)
    with pytest.raises(ValueError, match="JSON"):
        make_metadata(features=features, feature_names=name_features(features, ["C3", "Cz", "C4"]))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"sfreq": 1e999}', "null"])
def test_text_that_is_no_document_is_refused(text):
    with pytest.raises(ModelError, match="metadata"):
        ModelMetadata.from_json(text)


def test_a_newer_schema_asks_for_an_upgrade(model_file, tmp_path):
    path = _rewrite(model_file, tmp_path / "new.onnx", lambda document: document.update(schema_version=3, new_field=1))
    with pytest.raises(ModelError) as caught:
        Model.load(path)
    assert str(caught.value) == (
        f"{path}: made by a newer streamdetect (schema 3, this version reads 2): "
        "upgrade with pip install -U streamdetect"
    )


def test_metadata_that_does_not_fit_the_graph_is_refused(model_file, tmp_path):
    def drop_a_channel(document):
        del document["ch_names"][-1], document["feature_names"][-1]

    path = _rewrite(model_file, tmp_path / "fewer.onnx", drop_a_channel)
    with pytest.raises(ModelError, match=r"features must be tensor\(float\) of shape \(n, 2\)"):
        Model.load(path)
