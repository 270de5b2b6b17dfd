"""Segments a volume with workers that SLURM starts as the queue lets them; run it where it may stay until the end.

    python dask_workers.py [--jobs 16] [--cpus 8] volume.ome.zarr mask.ome.zarr [options of segment predict]

What your cluster needs beside this (partition, account, network interface, lines before the worker starts) goes into
~/.config/dask/jobqueue.yaml; see https://jobqueue.dask.org.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys

import dask
from dask_jobqueue import SLURMCluster

# Dask's workers give memory back to the system at every turn, which costs a tenth of the time of a block.
KEEP_MEMORY = "export MALLOC_TRIM_THRESHOLD_=67108864 MALLOC_MMAP_THRESHOLD_=4194304"
BLOCKS_IN_HAND = 3  # of a worker: one is read, one is computed, one is written


def main() -> int:
    """Start workers, segment with them, and end them; return the exit code of segment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--cpus", type=int, default=8, help="of a job")
    parser.add_argument("--memory", default="8GB", help="of a job")
    parser.add_argument("--walltime", default="12:00:00", help="of a job")
    options, rest = parser.parse_known_args()
    prologue = dask.config.get("jobqueue.slurm.job-script-prologue", default=[])
    with SLURMCluster(
        job_name="segment",
        processes=1,
        cores=BLOCKS_IN_HAND,  # the worker's threads, each with a block
        job_cpu=options.cpus,
        memory=options.memory,
        walltime=options.walltime,
        job_script_prologue=[*prologue, KEEP_MEMORY],
        worker_extra_args=["--memory-limit", "0", "--no-dashboard"],  # SLURM bounds the memory
    ) as cluster:
        cluster.adapt(minimum_jobs=options.jobs, maximum_jobs=options.jobs)  # a job that ends is replaced
        signal.signal(signal.SIGINT, lambda number, frame: None)  # Ctrl-C is for segment, which ends in good order
        return subprocess.run(
            [
                *(sys.executable, "-m", "segment.cli.main", "predict", *rest),
                *("--scheduler", cluster.scheduler_address, "--threads", str(options.cpus)),
            ]
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
