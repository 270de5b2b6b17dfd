"""``streamdetect export``: a kept scikit-learn estimator as an ONNX model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    estimator: Annotated[Path, typer.Argument(metavar="M.skops", help="What train --keep-sklearn wrote.")],
    out: Annotated[Path, typer.Argument(metavar="M.onnx", help="The model file to write; a card goes beside it.")],
) -> None:
    """Convert a kept scikit-learn model to ONNX.

    Refuses to write a file that does not give the trained probabilities.
    """
    try:
        from streamdetect.training.export import N_GATE_WINDOWS, reexport
    except ImportError as error:
        from streamdetect.errors import MissingExtraError

        raise MissingExtraError(error.name or "scikit-learn", "train") from error
    report = reexport(estimator, out)
    few = "" if report.n_windows >= N_GATE_WINDOWS else f" (all there were; {N_GATE_WINDOWS:,} are usual)"
    typer.echo(f"{out}: {report.n_bytes / 1e6:.2f} MB")
    typer.echo(
        f"parity: probabilities differ by at most {report.max_difference:.1e} on {report.n_windows:,} windows{few}"
    )
    typer.echo("parity: every decision is the same")
