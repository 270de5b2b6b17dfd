"""``segment zoo``: a model file in, a package for the BioImage Model Zoo out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamdetect.cli.console import check_outputs, needs_extra, say, table_console, write_json

SHIPPED_AUTHOR, SHIPPED_LICENSE = "The streamdetect developers", "BSD-3-Clause"


def zoo(
    model: Annotated[str, typer.Argument(metavar="M.onnx", help="A model file, or the name of a shipped model.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.zip", help="The package to write.")],
    author: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Who made it; repeat for more. Known of shipped models.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(metavar="SPDX", help="Such as CC-BY-4.0. Known of shipped models.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every figure as JSON; - is stdout.")] = None,
) -> None:
    """Pack a model for bioimage.io, and for the programs that run its models.

    The package takes a stack and gives probabilities, as segment predict does along z. It is written once
    bioimageio.core has found it valid and got the same results.
    """
    with needs_extra("zoo"):
        import bioimageio.core  # noqa: F401
        import onnx  # noqa: F401

        from segment.serving.metadata import METADATA_KEY
        from segment.training.zoo import export_zoo
        from streamdetect.model_file import SHIPPED, find_model
    from streamdetect.errors import InputError

    check_outputs((model,), json=json)
    check_outputs((model, json), **{"OUT.zip": out})
    source = find_model(model, METADATA_KEY)
    authors = [name.strip() for name in author or () if name.strip()]
    if source.parent not in SHIPPED and not (authors and license):
        raise InputError(
            f"{model}: the zoo asks who made a model and how it may be used: add --author NAME and --license SPDX"
        )
    report = export_zoo(source, out, authors=authors or [SHIPPED_AUTHOR], license=license or SHIPPED_LICENSE)
    figures = {
        "model": str(source),
        "package": str(out),
        "checks": [{"name": name, "status": status} for name, status in report.checks],
        "warnings": list(report.warnings),
        "max_difference": report.max_difference,
        "n_pixels": report.n_pixels,
        "n_bytes": report.n_bytes,
    }
    console = table_console(json)
    for name, status in report.checks:
        console.print(f"{status}: {name}")
    console.print(
        f"passed: the model's probabilities on {report.n_pixels:,} voxels, at most {report.max_difference:.1g} off"
    )
    for warning in report.warnings:
        say(f"bioimageio.core remarks: {warning}")
    say(f"wrote {out}: {report.n_bytes / 1e6:.1f} MB")
    write_json(json, figures)
