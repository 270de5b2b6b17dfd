"""Slow, obvious, independent versions of what streamdetect computes."""

from __future__ import annotations

import cmath
import math
from statistics import median

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
    """Walk through one feature's values, moving mean and variance; ten standard deviations is as far as it goes."""
    out = []
    for x in values:
        reach = 10 * np.sqrt(variance)
        x = min(max(x, mean - reach), mean + reach)
        d = x - mean
        mean = mean + gain * d
        variance = (1 - gain) * (variance + gain * d * d)
        out.append((x - mean) / np.sqrt(variance))
    return out


def spectrum(channel, sfreq):
    """The discrete Fourier transform by its definition, under a Hann window: {frequency: value}."""
    channel = [x - channel[0] for x in channel]  # exact for a channel that holds one value
    n, mean = len(channel), sum(channel) / len(channel)
    shaped = [(x - mean) * (0.5 - 0.5 * math.cos(2 * math.pi * i / n)) for i, x in enumerate(channel)]
    return {
        k * sfreq / n: sum(x * cmath.exp(-2j * math.pi * k * i / n) for i, x in enumerate(shaped))
        for k in range(n // 2 + 1)
    }


def stands_out(values):
    """By the words of the rule: five robust standard deviations of the logarithm, at least half a decade."""
    logs = [math.log10(max(value, 1e-300)) for value in values]
    middle = median(logs)
    spread = 1.4826 * median(abs(one - middle) for one in logs)
    return [one - middle > 5 * max(spread, 0.1) for one in logs]


def faults(data, sfreq):
    """Each rule of the channels by its words, value by value. data: (n_channels, n_times) in volts, not all flat."""
    data = [channel.tolist() for channel in data]
    spectra = [spectrum(channel, sfreq) for channel in data]

    def power(values, low, high):
        return sum(abs(value) ** 2 for freq, value in values.items() if low <= freq <= high)

    flat, railed = [], []
    for channel in data:
        held = all(x == channel[0] for x in channel)
        flat.append(held and abs(channel[0]) <= 1e-3)
        third = sum(
            all(x in (min(channel), max(channel)) for x in channel[i - 2 : i + 1]) for i in range(2, len(channel))
        )
        railed.append(abs(channel[0]) > 1e-3 if held else third > 0.05 * len(channel))

    lines, wholes, aboves, belows = [], [], [], []
    for values in spectra:
        mains = [power(values, hz - 2, hz + 2) for hz in (50, 60) if hz + 2 < sfreq / 2]
        lines.append(max(mains, default=0))
        wholes.append(power(values, 1.5, 100))
        belows.append(power(values, 1.5, 30))
        aboves.append(power(values, 30, math.inf) - sum(mains))
    outlying = stands_out([a / max(b - a, 1e-12 * a, 1e-300) for a, b in zip(lines, wholes, strict=True)])
    line_noise = [a > 0.5 * b and out for a, b, out in zip(lines, wholes, outlying, strict=True)]
    outlying = stands_out(aboves)
    muscle = [a > b and out for a, b, out in zip(aboves, belows, outlying, strict=True)]

    lag = max(1, round(0.002 * sfreq))
    changes = [[abs(x - y) for x, y in zip(channel[lag:], channel, strict=False)] for channel in data]
    outlying = stands_out([max(each) for each in changes])
    steps = [max(each) > 10 * sum(each) / len(each) and out for each, out in zip(changes, outlying, strict=True)]

    closest = []
    for i, one in enumerate(spectra):
        best = 0.0
        for j, other in enumerate(spectra):
            product = sum((one[f] * other[f].conjugate()).real for f in one if 1.5 <= f <= 45)
            size = math.sqrt(power(one, 1.5, 45) * power(other, 1.5, 45))
            if i != j and size > 0:
                best = max(best, abs(product) / size)
        closest.append(best)
    uncorrelated = [one < 0.4 and median(closest) > 0.6 for one in closest]
    dead = [any(pair) for pair in zip(flat, railed, strict=True)]
    others = [line_noise, muscle, steps, uncorrelated]
    return [flat, railed, *([one and not out for one, out in zip(each, dead, strict=True)] for each in others)]


def in_force(found, needed):
    """Walk through the blocks of one fault of one channel: bad after so many of five, good after ten without."""
    states, bad = [], False
    for i in range(len(found)):
        if sum(found[max(0, i - 4) : i + 1]) >= needed:
            bad = True
        elif not any(found[max(0, i - 9) : i + 1]):
            bad = False
        states.append(bad)
    return states
