"""Keeps so many jobs of workers in SLURM's queue, as jobqueue.yaml describes them: `python slurm.py 4`."""

import signal
import sys

from dask_jobqueue import SLURMCluster


def cluster(port: int = 8786) -> SLURMCluster:
    return SLURMCluster(scheduler_options={"port": port, "dashboard": False})


if __name__ == "__main__":
    jobs = int(sys.argv[1])
    with cluster() as workers:
        workers.adapt(minimum_jobs=jobs, maximum_jobs=jobs)  # a job that has ended is replaced
        print(workers.scheduler_address, flush=True)
        signal.pause()
