from __future__ import annotations

import pytest

from streamdetect.errors import InputError
from streamdetect.training.feature_sets import CANDIDATES, FEATURE_SETS, make_features

CAP = ("Fp1", "Fz", "FC1", "FC2", "C3", "Cz", "C4", "CP1", "CP2", "Pz", "Oz")


@pytest.mark.parametrize("sfreq", [100.0, 160.0, 500.0])
@pytest.mark.parametrize("name", sorted({*FEATURE_SETS, *CANDIDATES}))
def test_every_set_fits_every_usual_sampling_rate(name, sfreq):
    features = make_features(name, sfreq, CAP)
    assert features.name == name
    assert features.hop_samples == (1 if name == "2019" else round(0.02 * sfreq))
    assert all(max(one.l_freq or 0, one.h_freq) < sfreq / 2 for one in features.filters)
    assert features.window_samples <= 2 * sfreq  # on cued recordings no feature looks back further
    assert (features.normaliser is not None) == name.endswith("adaptive")


def test_the_method_of_2019_is_raw_power_below_30_hz_in_one_second():
    (block,) = make_features("2019", 500.0, CAP).blocks
    assert (block.kind, block.window_samples, block.log, block.reference) == ("power", 500, False, "as recorded")
    assert [(one.l_freq, one.h_freq, one.order) for one in block.filters] == [(None, 30.0, 4)]


def test_sets_compose_in_the_order_of_their_names():
    assert make_features("bands+lowpass", 500.0, CAP).blocks == (
        *make_features("bands", 500.0, CAP).blocks,
        *make_features("lowpass", 500.0, CAP).blocks,
    )


def test_one_window_for_all():
    features = make_features("mrcp+wide", 500.0, CAP, window_s=0.3)
    assert {block.window_samples for block in features.blocks} == {136, 150}


def test_a_laplacian_takes_the_nearest_channels():
    neighbours = make_features("erd", 500.0, CAP).neighbours
    assert len(neighbours) == len(CAP)
    assert {CAP[i] for i in neighbours[CAP.index("Cz")]} == {"FC1", "FC2", "CP1", "CP2"}
    assert make_features("bands", 500.0, CAP).neighbours == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wavelets", "--features wavelets: there is no wavelets; choose from power, bands, lowpass, mrcp"),
        ("power+", r"there is no name before or after a \+"),
        ("power+power", "a name occurs twice"),
        ("2019+power", "2019 stands alone"),
        ("adaptive", "adaptive needs features to normalise"),
    ],
)
def test_unknown_sets_are_refused_with_a_list(name, message):
    with pytest.raises(InputError, match=message):
        make_features(name, 500.0, CAP)


def test_a_laplacian_of_unknown_or_few_channels_is_refused():
    with pytest.raises(InputError, match="known of EXG1: leave out with --exclude EXG1, or choose"):
        make_features("erd", 500.0, (*CAP, "EXG1"))
    with pytest.raises(InputError, match="needs more than 4 channels, found 3"):
        make_features("mrcp", 500.0, CAP[:3])
    with pytest.raises(InputError, match="known of a, b, c, d, e: choose features"):
        make_features("erd", 500.0, tuple("abcde"))
