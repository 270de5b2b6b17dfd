"""Channels by name and units in volts, the same for recordings and live streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from streamdetect.errors import ChannelError, InputError

_VOLTS_PER = {  # casefold() turns the micro sign µ (U+00B5) into the Greek letter μ (U+03BC)
    "v": 1.0,
    "volt": 1.0,
    "volts": 1.0,
    "mv": 1e-3,
    "millivolt": 1e-3,
    "millivolts": 1e-3,
    "uv": 1e-6,
    "μv": 1e-6,
    "microvolt": 1e-6,
    "microvolts": 1e-6,
    "nv": 1e-9,
    "nanovolt": 1e-9,
    "nanovolts": 1e-9,
}
KNOWN_UNITS = "volts, V, millivolts, mV, microvolts, uV, µV, nanovolts, nV"
_SHOWN = 8  # names listed in a message before it says how many more there are


def volts_per(unit: str) -> float:
    """Return how many volts one of a unit is.

    Parameters
    ----------
    unit : str
        ``volts``, ``V``, ``millivolts``, ``mV``, ``microvolts``, ``uV``, ``µV``, ``nanovolts`` or ``nV``; capitals do
        not matter, but for ``MV``, which could be mega as well as milli and is refused.

    Returns
    -------
    float
        The factor that turns a value into volts.

    Raises
    ------
    InputError
        Where the unit is not one of these.

    Examples
    --------
    >>> volts_per("microvolts"), volts_per("mV")
    (1e-06, 0.001)
    """
    name = unit.strip()
    factor = None if name in ("MV", "Mv") else _VOLTS_PER.get(name.casefold())
    if factor is None:
        raise InputError(f"unit {unit!r} is not known: expected one of {KNOWN_UNITS}")
    return factor


def pick_channels(available: Sequence[str], wanted: Sequence[str], *, where: str) -> list[int]:
    """Find channels by name.

    Parameters
    ----------
    available : sequence of str
        Names of the channels that there are, unique.
    wanted : sequence of str
        Names of the channels to find. A name that does not occur as it is written is looked for without regard to
        capitals and trailing dots and spaces: PhysioNet's ``Fc5.`` is ``FC5``.
    where : str
        What has the channels, for the message: a file or a stream.

    Returns
    -------
    list of int
        Position in ``available`` of each wanted channel.

    Raises
    ------
    ChannelError
        Where channels are missing, a name fits several, or names in ``available`` are not unique.

    Examples
    --------
    >>> pick_channels(["Fc5.", "C3..", "Cz.."], ["CZ", "FC5"], where="S001R03.edf")
    [2, 0]
    """
    repeated = [name for name, count in Counter(available).items() if count > 1]
    if repeated:
        raise ChannelError(
            f"{where}: channel names must be unique, found more than one {_listed(repeated)}; rename them"
        )
    exact = {name: index for index, name in enumerate(available)}
    loose: dict[str, list[int]] = {}
    for index, name in enumerate(available):
        loose.setdefault(_plain(name), []).append(index)

    found = {name: [exact[name]] if name in exact else loose.get(_plain(name), []) for name in wanted}
    missing = [name for name, indices in found.items() if not indices]
    if missing:
        raise ChannelError(
            f"{where}: {len(missing)} of {len(wanted)} channels are missing: {_listed(missing)}; "
            f"it has {_listed(available)}"
        )
    for name, indices in found.items():
        if len(indices) > 1:
            raise ChannelError(f"{where}: channel {name} could be any of {_listed([available[i] for i in indices])}")
    return [found[name][0] for name in wanted]


def _plain(name: str) -> str:
    return name.strip().rstrip(". ").casefold()


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
