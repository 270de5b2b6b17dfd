"""Whether the processes that share a run have the same packages. It needs the extra ``cluster``."""

from __future__ import annotations

from collections.abc import Mapping

from distributed.versions import get_versions

Versions = Mapping[str, str | None]

# Dask's messages and our functions travel pickled; the model's runtime and our code decide the bits
DECISIVE = ("python", "streamdetect", "onnxruntime", "dask", "distributed")
TOLERATED = ("numpy", "zarr")
GPU_RUNTIME = "onnxruntime-gpu"  # the same package by another name
ASKED = ("streamdetect", "onnxruntime", GPU_RUNTIME, "dask", "distributed", "numpy", "zarr")


def own_versions() -> dict[str, str | None]:
    """Return the versions of this process's packages; None where one is not installed."""
    return tidy_versions(get_versions(ASKED)["packages"])


def tidy_versions(found: Versions) -> dict[str, str | None]:
    """Return what Dask tells of a process as it is compared: Python's minor version, one name for the runtime.

    Parameters
    ----------
    found : mapping of str to str or None
        Versions by package, with Python's in full.

    Examples
    --------
    >>> tidy_versions({"python": "3.11.7.final.0", "onnxruntime": None, "onnxruntime-gpu": "1.22.0"})["onnxruntime"]
    '1.22.0'
    """
    tidy = {name: found.get(name) for name in (*DECISIVE, *TOLERATED)}
    tidy["onnxruntime"] = found.get("onnxruntime") or found.get(GPU_RUNTIME)
    tidy["python"] = ".".join((found.get("python") or "unknown").split(".")[:2])
    return tidy


def name_difference(mine: Versions, theirs: Versions, packages: tuple[str, ...]) -> str | None:
    """Return how the first package that is not the same differs, in a few words; None where all are the same.

    Parameters
    ----------
    mine, theirs : mapping of str to str or None
        Versions by package, here and there.
    packages : tuple of str
        Those to look at.

    Examples
    --------
    >>> name_difference({"zarr": "3.1.6"}, {"zarr": "3.0.1"}, ("zarr",))
    'zarr 3.0.1 there and 3.1.6 here'
    >>> name_difference({"zarr": "3.1.6"}, {"zarr": None}, ("zarr",))
    'no zarr there and 3.1.6 here'
    """
    for name in packages:
        there, here = theirs.get(name), mine.get(name)
        if there != here:
            return f"{f'{name} {there}' if there else f'no {name}'} there and {here or 'none'} here"
    return None
