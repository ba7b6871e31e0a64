"""A kvstore's scheduler, servers and workers on loopback, each its own process."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def cluster(arguments, workers=2, servers=1, last=None, **environment):
    """Start Python with these arguments in each role; yields the processes by role, and kills them at the end.

    ``last``: the arguments of the last worker, if they are others.
    """
    environment = dict(os.environ, DMLC_PS_ROOT_URI="127.0.0.1", DMLC_PS_ROOT_PORT=str(free_port()),
                       DMLC_NODE_HOST="127.0.0.1", DMLC_INTERFACE="lo", DMLC_NUM_SERVER=str(servers),
                       DMLC_NUM_WORKER=str(workers), OMP_NUM_THREADS="1", **environment)
    processes = {role: [subprocess.Popen([sys.executable, *map(str, last if last and role == "worker" and not i
                                                               else arguments)], text=True, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, env=dict(environment, DMLC_ROLE=role))
                        for i in reversed(range(count))]
                 for role, count in (("scheduler", 1), ("server", servers), ("worker", workers))}
    try:
        yield processes
    finally:
        for process in sum(processes.values(), []):
            process.kill()
            process.wait()


def run_cluster(script, workers=2, servers=1, **environment):
    """Standard output and error of each worker, as text, and the workers' exit statuses.

    Where one fails, the others are killed: they would wait for it without end. AssertionError if the scheduler or a
    server fails while they run.
    """
    with ThreadPoolExecutor(100) as readers, cluster(["-c", script], workers, servers, **environment) as processes:
        # All are read: one whose output nobody reads would stop when it has written some.
        outputs = {process: readers.submit(process.communicate) for process in sum(processes.values(), [])}
        started = processes["worker"]
        while None in (statuses := [worker.poll() for worker in started]) and not any(statuses):
            for role in ("scheduler", "server"):
                for process in processes[role]:
                    assert not process.poll(), f"{role} ended with {process.returncode}: {outputs[process].result()}"
            time.sleep(0.02)
        for process in outputs:
            process.kill()
        return [outputs[worker].result() for worker in started], [worker.returncode for worker in started]
