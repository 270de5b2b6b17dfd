"""What every streaming block promises, checked the same way for each of them."""

from __future__ import annotations

import itertools
from dataclasses import fields, is_dataclass

import numpy as np

from streamdetect.chunk import Chunk


def cut(chunk: Chunk, sizes) -> list[Chunk]:
    """Cut a chunk into consecutive ones of the given sizes, which must add up."""
    edges = np.concatenate(([0], np.cumsum(sizes)))
    assert edges[-1] == chunk.n_times
    return [
        Chunk(
            chunk.data[:, a:b],
            chunk.times[a:b],
            n_lost=chunk.n_lost if i == 0 else 0,
            restart=chunk.restart and i == 0,
            quality=None if chunk.quality is None else chunk.quality[a:b],
            first_sample=chunk.first_sample + int(a),
        )
        for i, (a, b) in enumerate(itertools.pairwise(edges))
    ]


def collect(block, chunks) -> dict[str, np.ndarray]:
    """Feed chunks and join what comes out, array by array."""
    outputs = []
    for chunk in chunks:
        output = block.process(chunk)
        outputs += output if isinstance(output, list) else [output]
    flushed = block.flush()
    if is_dataclass(flushed):
        outputs.append(flushed)
    assert is_dataclass(flushed) or len(flushed) == 0
    return join(outputs)


def join(outputs) -> dict[str, np.ndarray]:
    """Join the arrays of consecutive outputs along time."""
    joined: dict[str, np.ndarray] = {}
    if not outputs:
        return joined
    if isinstance(outputs[0], np.ndarray):
        return {"values": np.concatenate(outputs)}
    for field in fields(outputs[0]):
        values = [getattr(output, field.name) for output in outputs]
        if isinstance(values[0], np.ndarray):
            axis = 1 if field.name == "data" else 0
            joined[field.name] = np.concatenate(values, axis=axis)
        elif isinstance(values[0], dict):
            for name in values[0]:
                joined[f"{field.name}.{name}"] = np.concatenate([value[name] for value in values])
        elif field.name == "detections":
            joined[field.name] = np.array([(d.event, d.sample, d.time, d.probability) for v in values for d in v])
    if isinstance(outputs[0], Chunk):
        joined["restarts"] = np.array([chunk.first_sample for chunk in outputs if chunk.restart], dtype=np.int64)
        bad = [sum(1 << channel for channel in chunk.bad_channels) for chunk in outputs]
        joined["bad_channels"] = np.repeat(np.array(bad, dtype=np.int64), [chunk.n_times for chunk in outputs])
    return joined


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Bit for bit: same keys, shapes, types and values, NaN equal to NaN."""
    assert actual.keys() == expected.keys()
    for name, values in expected.items():
        assert actual[name].dtype == values.dtype, name
        assert actual[name].shape == values.shape, name
        assert actual[name].tobytes() == values.tobytes(), name


def check_block(make, chunks: list[Chunk], recut) -> None:
    """Check all promises of a block.

    make: builds a fresh block. chunks: what it gets, in large pieces. recut: a function that cuts one chunk otherwise.
    """
    before = [(chunk.data.copy(), chunk.times.copy()) for chunk in chunks]
    block = make()
    expected = collect(block, chunks)

    block.reset()
    assert_same(collect(block, chunks), expected)  # reset() equals new

    recut_chunks = [piece for chunk in chunks for piece in recut(chunk)]
    assert_same(collect(make(), recut_chunks), expected)  # any cuts

    strided = [
        Chunk(
            np.asfortranarray(chunk.data),
            chunk.times,
            chunk.n_lost,
            chunk.restart,
            chunk.quality,
            chunk.first_sample,
        )
        for chunk in recut_chunks
    ]
    assert_same(collect(make(), strided), expected)  # non-contiguous input

    one, two = make(), make()  # two instances, fed in turn
    outputs: tuple[list, list] = ([], [])
    for chunk in chunks:
        for block, kept in zip((one, two), outputs, strict=True):
            output = block.process(chunk)
            kept += output if isinstance(output, list) else [output]
    for kept in outputs:
        assert_same(join(kept), expected)

    for chunk, (data, times) in zip(chunks, before, strict=True):  # inputs untouched
        assert chunk.data.tobytes() == data.tobytes()
        assert chunk.times.tobytes() == times.tobytes()
