"""Writes small XDF files, chunk by chunk."""

from __future__ import annotations

import struct

import numpy as np


def chunk(tag, content):
    return b"\x04" + struct.pack("<IH", len(content) + 2, tag) + content


def stream(number, name, kind, sfreq, fmt, samples, stamps, channels=(), offsets=(), source_id=""):
    """Return the chunks of a stream; channels are dicts of label, unit, type; offsets are (time, value)."""
    fields = "".join(
        f"<channel>{''.join(f'<{key}>{value}</{key}>' for key, value in channel.items())}</channel>"
        for channel in channels
    )
    header = (
        f'<?xml version="1.0"?><info><name>{name}</name><type>{kind}</type><source_id>{source_id}</source_id>'
        f"<channel_count>{len(samples[0])}</channel_count><nominal_srate>{sfreq}</nominal_srate><channel_format>{fmt}</channel_format>"
        f"<desc><channels>{fields}</channels></desc></info>"
    )
    stream_id = struct.pack("<I", number)
    content = [chunk(2, stream_id + header.encode())]
    for first in range(0, len(samples), 50):
        body = b""
        for row, stamp in zip(samples[first : first + 50], stamps[first : first + 50], strict=True):
            body += b"\x08" + struct.pack("<d", stamp)
            if fmt == "string":
                body += b"".join(b"\x01" + bytes([len(word)]) + word.encode() for word in row)
            else:
                body += np.asarray(row, {"float32": "<f4", "int16": "<i2", "double64": "<f8"}[fmt]).tobytes()
        content.append(chunk(3, stream_id + b"\x04" + struct.pack("<I", len(samples[first : first + 50])) + body))
    content += [chunk(4, stream_id + struct.pack("<dd", *offset)) for offset in offsets]
    return b"".join(content)


def write(path, *streams):
    path.write_bytes(
        b"XDF:" + chunk(1, b'<?xml version="1.0"?><info><version>1.0</version></info>') + b"".join(streams)
    )
    return path


def channels(*names, unit="microvolts", kind="EEG"):
    return [{"label": name, "unit": unit, "type": kind} for name in names]
