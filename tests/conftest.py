"""What several test folders share."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import make_model
from streamdetect.stages.model import Model

CHECKOUT = Path(__file__).resolve().parents[1]


# LSL on the loopback interface only, apart from everybody else's, quiet, and with a quick measurement of the clocks.
LSL_CONFIG = """\
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {{127.0.0.1}}
SessionID = {session_id}
[ports]
IPv6 = disable
BasePort = {base_port}
PortRange = 64
[tuning]
MulticastMinRTT = 0.1
TimeProbeCount = 4
TimeProbeInterval = 0.005
TimeProbeMaxRTT = 0.05
TimeUpdateMinProbes = 1
[log]
level = -3
"""


@pytest.fixture(scope="session")
def lsl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Real LSL on this machine, for this process and those that it starts; the value is its configuration file.

    liblsl reads it once, at its first use: every test that touches LSL asks for this fixture.
    """
    path = tmp_path_factory.mktemp("lsl") / "lsl_api.cfg"
    session = uuid.uuid4()
    # Ports of one's own, below those that the system deals out: liblsl looks for streams at 32 ports only, which a few
    # test sessions at once use up.
    base_port = 17_000 + 64 * (session.int % 230)
    path.write_text(LSL_CONFIG.format(session_id=f"streamdetect-{session}", base_port=base_port))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSLAPICFG", str(path))
        patch.setattr("streamdetect.sources.lsl_streams._SETTLE_S", 0.3)  # fits MulticastMinRTT above
        yield path


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C reaches this process, and those that a test starts: a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data, see its README.md; a test that asks for it skips where there is none."""
    folder = Path(os.environ.get("STREAMDETECT_DATA", CHECKOUT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set STREAMDETECT_DATA)")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model for the signals of the contract tests: three channels at 100 Hz, two events."""
    path = make_model(tmp_path_factory.mktemp("model") / "tiny.onnx", sfreq=100.0, n_events=2, hop_samples=4)
    return Model.load(path)
