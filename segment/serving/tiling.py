"""How planes are cut into tiles that overlap, so that no border of a tile shows.

A network sees as far as its halo. A tile is computed with a halo around it and gives its core, where every pixel saw
what it would see in the whole plane. At the borders of the plane no halo is needed: there a tile and the plane end
alike, in the network's own padding.
"""

from __future__ import annotations

from dataclasses import dataclass

from segment.errors import InputError


@dataclass(frozen=True)
class Window:
    """A tile along one axis.

    Parameters
    ----------
    origin, size : int
        What the network sees: the first pixel, a multiple of the stride, and how many; it may reach beyond the end
        of the axis by less than the stride.
    start, stop : int
        The core: the first pixel that is kept, and one past the last.
    """

    origin: int
    size: int
    start: int
    stop: int


def cut_axis(n: int, tile: int, halo: int, stride: int) -> tuple[Window, ...]:
    """Cut an axis into windows of one size whose cores cover it once.

    Parameters
    ----------
    n : int
        Pixels along the axis, 1 or more.
    tile : int
        The largest size of a window.
    halo : int
        Pixels beside the core that the network needs, a multiple of the stride.
    stride : int
        Origins and sizes are multiples of it, as the network's pooling demands.

    Returns
    -------
    tuple of Window
        In order. One where the axis fits into a tile; else no larger than it takes for their number.

    Raises
    ------
    InputError
        The tile leaves no core.

    Examples
    --------
    >>> cut_axis(100, 512, 96, 16)
    (Window(origin=0, size=112, start=0, stop=100),)
    >>> [(window.origin, window.size, window.start, window.stop) for window in cut_axis(1000, 512, 96, 16)]
    [(0, 464, 0, 368), (272, 464, 368, 640), (544, 464, 640, 1000)]
    """
    check_tile(tile, halo, stride)
    extended = round_up(n, stride)
    tile = tile // stride * stride
    if extended <= tile:
        return (Window(0, extended, 0, n),)
    inner = extended - 2 * halo  # what is left for cores once the plane's two ends have taken theirs
    count = -(-inner // (tile - 2 * halo))
    step = round_up(-(-inner // count), stride)
    size = step + 2 * halo
    origins = [min(index * step, extended - size) for index in range(count)]
    edges = [0, *(origin + halo for origin in origins[1:]), n]
    return tuple(
        Window(origin, size, start, stop) for origin, start, stop in zip(origins, edges[:-1], edges[1:], strict=True)
    )


def check_tile(tile: int, halo: int, stride: int) -> None:
    """Refuse a tile that has no core between its halos.

    Raises
    ------
    InputError
        With the smallest that works.
    """
    if tile // stride * stride <= 2 * halo:
        raise InputError(
            f"--tile {tile}: this model needs {halo} pixels around each tile; the smallest that works is "
            f"{2 * halo + stride}, larger ones are faster"
        )


def round_up(n: int, stride: int) -> int:
    """Return the smallest multiple of the stride that is not smaller.

    Examples
    --------
    >>> round_up(33, 16)
    48
    """
    return -(-n // stride) * stride
