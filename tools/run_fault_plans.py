"""Random fault plans through whole sessions: does one crash, hang, lose count or trust what it should not?

    python tools/run_fault_plans.py [--n 200] [--seed 0] [--live 10] [--model M.onnx] [--json F]

Each plan befalls a minute and a half of simulated EEG (32 channels, 500 Hz) on its way through monitor, detector and
journal; the first few are played over LSL as well. Without --model one is trained for the purpose. Of each session:

- it ends, and by itself;
- every sample was counted, those lost too: the truth, the summary and the journal agree;
- no decision is valid inside a gap, a stretch of NaN, or the warm-up after either or after a clock jump;
- the decisions are those of the detector on what was sent, each sample once;
- at the end, in the calm after the last fault, they are valid again.

Seeds are printed; a plan that fails is printed as TOML, for `streamdetect play --faults`.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from streamdetect.bench.rehearsal import Rehearsal, decide_offline, rehearse, rehearse_live
from streamdetect.bench.throughput import make_bench_model
from streamdetect.detector import Detector, FeaturePipeline
from streamdetect.player import PlayableRecording
from streamdetect.sources.fault_plan import FaultPlan, plan_to_toml
from streamdetect.sources.faults import Delivery, apply_faults
from streamdetect.sources.random_faults import random_plan
from streamdetect.sources.simulate import simulate_series

MINUTES = 1.5
LONGEST_S = 180.0  # for one plan: a session that takes longer hangs

Trusted = NDArray[np.bool_]


def find_problems(ended: Rehearsal, recording: PlayableRecording, plan: FaultPlan, detector: Detector) -> list[str]:
    """Say what is wrong with a session; nothing where all is well."""
    if ended.error is not None or ended.summary is None:
        return [f"it ended with {ended.error!r}"]
    problems = []
    n_journal = sum(record["n_lost"] for record in ended.of_type("reset"))
    if not ended.n_lost == ended.summary.n_lost == n_journal:
        problems.append(f"lost: {ended.n_lost} in truth, {ended.summary.n_lost} counted, {n_journal} in the journal")
    if ended.n_sent != ended.summary.n_samples:
        problems.append(f"sent: {ended.n_sent} in truth, {ended.summary.n_samples} counted")
    if problems:  # what follows would be about other samples
        return problems

    decisions = ended.of_type("decision")
    samples = np.array([record["sample"] for record in decisions])
    valid = np.array([record["valid"] for record in decisions])
    warmup = warmup_of(detector)
    n_planned, trusted = trust_by_plan(recording, plan, warmup)
    is_as_planned = ended.n_lost == n_planned  # over LSL a restart takes longer, by what it takes to be found again
    if not is_as_planned:
        trusted = trust_by_journal(ended, warmup)
    wrong = samples[valid & ~trusted[samples]]
    if len(wrong):
        problems.append(f"{len(wrong)} decisions are valid too early, the first at sample {wrong[0]}")
    if not valid[-1]:
        problems.append(f"it ends invalid: {decisions[-1]['reason']}")
    if is_as_planned:
        expected = decide_offline(recording, plan, detector)
        found = np.array([[record[f"p_{name}"] for name in detector.event_names] for record in decisions], np.float32)
        same = samples.tolist() == expected.samples.tolist() and valid.tolist() == expected.valid.tolist()
        if not (same and np.array_equal(found, expected.probability, equal_nan=True)):
            problems.append("the decisions are not those on what was sent")
    return problems


def warmup_of(detector: Detector) -> int:
    metadata = detector.model.metadata
    return FeaturePipeline(len(metadata.ch_names), metadata.sfreq, metadata.health, metadata.features).warmup_samples


def trust_by_plan(recording: PlayableRecording, plan: FaultPlan, warmup: int) -> tuple[int, Trusted]:
    """Return how many samples the plan takes away, and after which samples a decision may be valid."""
    bad = np.ones(recording.n_times, dtype=bool)
    anew = np.zeros(recording.n_times, dtype=bool)
    n_lost = 0
    blocks = recording.chunks(chunk_samples=round(recording.info.sfreq))
    for each in apply_faults(plan, blocks, recording.info):
        if isinstance(each, Delivery) and not each.repeated:
            first = each.n_next - each.chunk.n_times
            bad[first : each.n_next] = ~np.isfinite(each.chunk.data).all(axis=0)
            anew[first] = each.chunk.restart
            n_lost += each.chunk.n_lost
    return n_lost, trust(bad, anew, warmup)


def trust_by_journal(ended: Rehearsal, warmup: int) -> Trusted:
    bad = np.zeros(ended.n_sent + ended.n_lost, dtype=bool)
    anew = np.zeros(len(bad), dtype=bool)
    for record in ended.of_type("reset"):
        bad[record["sample"] - record["n_lost"] : record["sample"]] = True
        anew[record["sample"]] = record["restart"]
    return trust(bad, anew, warmup)


def trust(bad: NDArray[np.bool_], anew: NDArray[np.bool_], warmup: int) -> Trusted:
    """Return where so many samples in a row, the present one included, are neither bad nor from before a new start."""
    index = np.arange(len(bad))
    last_bad = np.maximum.accumulate(np.where(bad, index, np.where(anew, index - 1, -1)))
    return index - last_bad >= warmup


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200, help="plans")
    parser.add_argument("--seed", type=int, default=0, help="of the first; each next one has the next")
    parser.add_argument("--live", type=int, default=10, help="how many of them to play over LSL too")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        detector = Detector.load(arguments.model or make_bench_model(folder, n_series=3, minutes=1.0).path)
        recording = simulate_series(1, 9, minutes=MINUTES).recording()
        for seed in range(arguments.seed, arguments.seed + arguments.n):
            plan = random_plan(seed, MINUTES * 60.0, recording.info.ch_names)
            for is_live in (False, True) if seed < arguments.seed + arguments.live else (False,):
                where = "over LSL" if is_live else "in process"
                console.print(f"seed {seed}, {where}: {', '.join(fault.kind for fault in plan.faults)}", end=" ... ")
                sys.stdout.flush()
                faulthandler.dump_traceback_later(LONGEST_S, exit=True)
                path = folder / f"{seed}-{where.replace(' ', '-')}.jsonl"
                if is_live:
                    ended = rehearse_live(recording, plan, detector, path, f"fault-plan-{seed}")
                else:
                    ended = rehearse(recording, plan, detector, path)
                problems = find_problems(ended, recording, plan, detector)
                faulthandler.cancel_dump_traceback_later()
                path.unlink()
                console.print("; ".join(problems) or f"fine, {ended.n_lost} lost, {ended.n_repeated} sent twice")
                if problems:
                    console.print(plan_to_toml(plan) + "\n")
                counts = {"n_sent": ended.n_sent, "n_lost": ended.n_lost, "n_repeated": ended.n_repeated}
                rows.append({"seed": seed, "live": is_live, **counts, "problems": problems})
    failed = [row for row in rows if row["problems"]]
    lost = sum(row["n_lost"] for row in rows)
    console.print(
        f"{len(rows)} sessions in {time.perf_counter() - began:.0f} s, {lost} samples lost; "
        f"{len(failed)} with problems: {sorted({row['seed'] for row in failed})}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps({"n_failed": len(failed), "sessions": rows}, indent=2) + "\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
