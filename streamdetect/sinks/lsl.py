"""LSL outlets: detections as markers, probabilities as a signal, health as JSON, a recording's signal for `play`."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamdetect.chunk import StreamInfo
from streamdetect.decisions import Decisions
from streamdetect.errors import InputError
from streamdetect.status import Status, health_document

if TYPE_CHECKING:
    import pylsl

MICROVOLTS_PER_VOLT = 1e6

_WAIT_SLICE_S = 0.1  # a wait in C cannot be interrupted: how long Ctrl-C may take
_BUFFER_S = 1800  # what liblsl keeps for a consumer that falls behind
_BUFFER_SAMPLES = 4_000_000  # at most, 8 bytes each


class MarkerOutlet:
    """A stream of strings: a detection's event, or an annotation's description.

    Parameters
    ----------
    name : str
        Name of the stream; its type is ``Markers``.
    """

    def __init__(self, name: str) -> None:
        import pylsl

        info = pylsl.StreamInfo(name, "Markers", 1, pylsl.IRREGULAR_RATE, pylsl.cf_string, make_source_id(name))
        _describe_channels(info, ["event"], "Marker", "")
        self._outlet: Any = pylsl.StreamOutlet(info)

    def push(self, text: str, time: float) -> None:
        """Send one marker.

        Parameters
        ----------
        text : str
            What happened.
        time : float
            When, in s of this machine's LSL clock.
        """
        self._outlet.push_sample([text], time)

    def write(self, decisions: Decisions, time_correction: float) -> None:
        """Send a marker for each detection.

        Parameters
        ----------
        decisions : Decisions
            The next decisions.
        time_correction : float
            What to add to their times to have them in this machine's LSL clock, in s.
        """
        for detection in decisions.detections:
            self.push(detection.event, detection.time + time_correction)

    def wait_for_consumer(self, timeout_s: float | None, is_stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait until somebody listens, as `SignalOutlet.wait_for_consumer`."""
        return _wait_for_consumer(self._outlet, timeout_s, is_stopped)

    @property
    def has_consumer(self) -> bool:
        """Whether anybody listens."""
        return self._outlet.have_consumers()

    def close(self) -> None:
        """Take the stream off the network; what was not yet sent is lost."""
        self._outlet = None


class ProbabilityOutlet:
    """A float32 stream with a channel for each event, and a sample for each decision.

    Parameters
    ----------
    name : str
        Name of the stream; its type is ``Probability``.
    event_names : sequence of str
        Events; the channels are labelled ``p_<event>``.
    sfreq : float
        Decisions a second.
    """

    def __init__(self, name: str, event_names: Sequence[str], sfreq: float) -> None:
        import pylsl

        info = pylsl.StreamInfo(name, "Probability", len(event_names), sfreq, pylsl.cf_float32, make_source_id(name))
        _describe_channels(info, [f"p_{event}" for event in event_names], "Probability", "probability")
        self._outlet: Any = pylsl.StreamOutlet(info)

    def write(self, decisions: Decisions, time_correction: float) -> None:
        """Send a sample for each decision, NaN where it is invalid.

        Parameters
        ----------
        decisions, time_correction
            As for `MarkerOutlet.write`.
        """
        if len(decisions) == 1:  # nearly always, and a quarter of the time of a chunk
            self._outlet.push_sample(decisions.probability[0].tolist(), float(decisions.times[0]) + time_correction)
        elif len(decisions):
            self._outlet.push_chunk(decisions.probability, (decisions.times + time_correction).tolist())

    @property
    def has_consumer(self) -> bool:
        """Whether anybody listens."""
        return self._outlet.have_consumers()

    def close(self) -> None:
        """Take the stream off the network; what was not yet sent is lost."""
        self._outlet = None


class HealthOutlet:
    """A stream of strings, each the health of a session as a JSON document; see `streamdetect.status`.

    Parameters
    ----------
    name : str
        Name of the stream; its type is ``Health``.
    stream, source_id : str
        Name and source id of the stream that the session listens to; both are told in the description.
    """

    def __init__(self, name: str, *, stream: str, source_id: str) -> None:
        import pylsl

        info = pylsl.StreamInfo(name, "Health", 1, pylsl.IRREGULAR_RATE, pylsl.cf_string, make_source_id(name))
        _describe_channels(info, ["health"], "Health", "json")
        listens_to = info.desc().append_child("listens_to")
        listens_to.append_child_value("name", stream)
        listens_to.append_child_value("source_id", source_id)
        self._outlet: Any = pylsl.StreamOutlet(info)

    def push(self, status: Status) -> None:
        """Send how a session stands, stamped with the moment of sending."""
        self._outlet.push_sample([json.dumps(health_document(status), allow_nan=False, separators=(",", ":"))])

    @property
    def has_consumer(self) -> bool:
        """Whether anybody listens."""
        return self._outlet.have_consumers()

    def close(self) -> None:
        """Take the stream off the network; what was not yet sent is lost."""
        self._outlet = None


class SignalOutlet:
    """A recording's signal as a live EEG stream with its channels described.

    Parameters
    ----------
    info : StreamInfo
        Channels, sampling rate and name of the stream; its type is ``EEG``.
    dtype : {"float32", "float64"}
        ``float64`` carries volts, unscaled and bit for bit; ``float32`` carries microvolts, as amplifiers do.
    source_id : str or None
        By which receivers find the stream again after a restart; None for one that is the same each time.

    Raises
    ------
    InputError
        Another dtype.
    """

    def __init__(self, info: StreamInfo, dtype: str = "float32", source_id: str | None = None) -> None:
        import pylsl

        if dtype not in ("float32", "float64"):
            raise InputError(f"dtype: expected float32 or float64, found {dtype!r}")
        self._dtype: Literal["float32", "float64"] = "float64" if dtype == "float64" else "float32"
        channel_format = pylsl.cf_double64 if dtype == "float64" else pylsl.cf_float32
        description = pylsl.StreamInfo(
            info.name, "EEG", info.n_channels, info.sfreq, channel_format, source_id or make_source_id(info.name)
        )
        _describe_channels(description, info.ch_names, "EEG", "volts" if dtype == "float64" else "microvolts")
        buffer_s = max(1, min(_BUFFER_S, int(_BUFFER_SAMPLES / info.sfreq)))
        self._outlet: Any = pylsl.StreamOutlet(description, max_buffered=buffer_s)

    def push(self, data: NDArray[np.float64], times: NDArray[np.float64]) -> None:
        """Send samples.

        Parameters
        ----------
        data : ndarray, shape (n_channels, n_times), float64
            Signal in volts.
        times : ndarray, shape (n_times,), float64
            Time stamp of each sample in s of the LSL clock.
        """
        scaled = data if self._dtype == "float64" else data * MICROVOLTS_PER_VOLT
        self._outlet.push_chunk(np.ascontiguousarray(scaled.T, dtype=self._dtype), times.tolist())

    def wait_for_consumer(self, timeout_s: float | None, is_stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait until somebody listens.

        Parameters
        ----------
        timeout_s : float or None
            The longest to wait, in s; None for as long as it takes.
        is_stopped : callable
            Asked about ten times a second whether to give up.

        Returns
        -------
        bool
            Whether anybody listens.
        """
        return _wait_for_consumer(self._outlet, timeout_s, is_stopped)

    @property
    def has_consumer(self) -> bool:
        """Whether anybody listens."""
        return self._outlet.have_consumers()

    def close(self) -> None:
        """Take the stream off the network; what was not yet sent is lost."""
        self._outlet = None


def _wait_for_consumer(
    outlet: pylsl.StreamOutlet, timeout_s: float | None, is_stopped: Callable[[], bool] = lambda: False
) -> bool:
    remaining = float("inf") if timeout_s is None else timeout_s
    while remaining > 0 and not is_stopped():
        if outlet.wait_for_consumers(min(_WAIT_SLICE_S, remaining)):
            return True
        remaining -= _WAIT_SLICE_S
    return outlet.have_consumers()


def _describe_channels(info: pylsl.StreamInfo, labels: Sequence[str], kind: str, unit: str) -> None:
    """Write the channels' labels, units and types the way XDF prescribes."""
    channels = info.desc().append_child("channels")
    for label in labels:
        channel = channels.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("unit", unit)
        channel.append_child_value("type", kind)


def make_source_id(name: str) -> str:
    """Return the source id of an outlet, which is the same each time.

    So receivers find the stream again after a restart.

    Parameters
    ----------
    name : str
        Name of the outlet.

    Returns
    -------
    str
    """
    return f"streamdetect:{socket.gethostname()}:{name}"
