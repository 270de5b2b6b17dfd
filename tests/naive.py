"""Slow, obvious, independent versions of what streamdetect computes."""

from __future__ import annotations

import numpy as np
from scipy import signal


def average_power(data, sfreq, *, h_freq, order, window_samples, hop_samples, l_freq=None):
    """Window by window: filter all that came before, keep the last window, square, average.

    data: (n_channels, n_times) in volts. Returns (n_windows, n_channels) in µV², a row for each hop.
    """
    edges, kind = ([l_freq, h_freq], "bandpass") if l_freq else (h_freq, "lowpass")
    sos = signal.butter(order, edges, kind, fs=sfreq, output="sos")
    rows = []
    for end in range(hop_samples, data.shape[1] + 1, hop_samples):
        row = []
        for channel in data:
            past = channel[:end]
            filtered, _ = signal.sosfilt(sos, past, zi=signal.sosfilt_zi(sos) * past[0])
            window = filtered[max(0, end - window_samples) :] * 1e6
            row.append(sum(value**2 for value in window.tolist()) / window_samples)
        rows.append(row)
    return np.array(rows)


def detections(samples, above, dwell_samples, refractory_samples):
    """Walk through the decisions one by one."""
    found, run_start, quiet_until = [], None, 0
    for i, (sample, is_above) in enumerate(zip(samples, above, strict=True)):
        if not is_above:
            run_start = None
            continue
        if sample < quiet_until:
            continue
        if run_start is None:
            run_start = sample
        if sample - run_start >= dwell_samples:
            found.append(i)
            quiet_until = sample + max(1, refractory_samples)
            run_start = None
    return found


def valid_decisions(bad, ends, warmup_samples):
    """A decision is valid where the last warmup_samples samples exist and none of them is bad."""
    return [end + 1 >= warmup_samples and not any(bad[end + 1 - warmup_samples : end + 1]) for end in ends]


def amplitudes(data, sfreq, filters, delays, *, hop_samples, n_cosines=0):
    """Filter the whole past of each decision, look up each delay, and take each cosine by its formula.

    data: (n_channels, n_times) in volts. Returns (n_decisions, n_features) in µV.
    """
    rows, n = [], len(delays)
    for end in range(hop_samples, data.shape[1] + 1, hop_samples):
        row = []
        for one in filters:
            edges, kind = ([one.l_freq, one.h_freq], "bandpass") if one.l_freq else (one.h_freq, "lowpass")
            sos = signal.butter(one.order, edges, kind, fs=sfreq, output="sos")
            past = [
                signal.sosfilt(sos, channel[:end], zi=signal.sosfilt_zi(sos) * channel[0])[0] * 1e6 for channel in data
            ]
            values = [[each[max(0, end - 1 - delay)] for each in past] for delay in delays]  # (n_delays, n_channels)
            if n_cosines:
                weights = [
                    [np.sqrt((1 if k == 0 else 2) / n) * np.cos(np.pi * k * (j + 0.5) / n) for j in range(n)]
                    for k in range(n_cosines)
                ]
                values = [
                    [sum(w * v[c] for w, v in zip(ws, values, strict=True)) for c in range(len(data))] for ws in weights
                ]
            row += [value for each in values for value in each]
        rows.append(row)
    return np.array(rows)


def normalised(values, gain, mean, variance):
    """Walk through one feature's values, moving mean and variance."""
    out = []
    for x in values:
        d = x - mean
        mean = mean + gain * d
        variance = (1 - gain) * (variance + gain * d * d)
        out.append((x - mean) / np.sqrt(variance))
    return out
