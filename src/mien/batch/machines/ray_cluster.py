"""The jobs of a plan on a Ray cluster, which places them on its nodes and tries them again."""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from mien.batch.assignment import Assignment, run_one
from mien.batch.inputs import Job
from mien.batch.spread import Outcomes, Overall, Run, left_to_others, lost_outcome
from mien.errors import MissingExtraError, OutputError
from mien.outputs.claims import STALE_S

__all__ = ["connected_to_ray", "do_on_ray"]

# How often Ray tries a job again whose process or node has died.
_RETRIES: Final = 3
# Jobs that are handed to Ray at once, for each of its cores; the others wait here.
_AHEAD: Final = 2
# Time after which is looked whether nodes have joined, s.
_LOOK_S: Final = 5.0


def do_on_ray(run: Run, jobs: Sequence[Job], outcomes: Outcomes, address: str) -> None:
    """Do jobs on a Ray cluster, and those that were left to others once more at the end.

    Args:
        run: What does them.
        jobs: The jobs.
        outcomes: Is filled; what was done before an interrupt stays in it.
        address: The cluster's address, ``auto`` for the one this machine belongs to, or ``local``
            for one on this machine alone.

    Raises:
        MissingExtraError: Ray is not installed.
        OutputError: There is no such cluster.
        BundleError: The bundles of a node are not those of the plan.
    """
    overall = Overall(run.progress, jobs)
    # The largest first, so that no long one is left for the end.
    by_size = dict(sorted(enumerate(jobs), key=lambda item: -item[1].size))
    with connected_to_ray(address) as ray:
        run.progress.together(len(jobs), _cores(ray))
        _do(ray, run, by_size, outcomes, overall)
        left = {number: jobs[number] for number in left_to_others(outcomes)}
        if left:
            # Claims of a node that died count no longer then.
            time.sleep(STALE_S)
            _do(ray, run, left, outcomes, overall)
    # Ray does what a process had that died once more by itself, and knows nothing of its files.
    run.target.sweep(jobs)


def _do(ray: Any, run: Run, jobs: Mapping[int, Job], outcomes: Outcomes, overall: Overall) -> None:
    """Do jobs, which have numbers, in the order given."""
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(run_one)
    waiting = deque(jobs)
    running: dict[Any, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < _AHEAD * _cores(ray):
                number = waiting.popleft()
                running[task.remote(Assignment(jobs[number], run.settings))] = number
            for answer in ray.wait(list(running), timeout=_LOOK_S)[0]:
                number = running.pop(answer)
                try:
                    outcome = ray.get(answer)
                except ray.exceptions.RayTaskError as error:
                    # Such as other bundles on that node, which all of its jobs would meet.
                    raise error.cause from None
                except ray.exceptions.RayError as error:
                    how = f"ended {_RETRIES + 1} times ({type(error).__name__})"
                    outcome = lost_outcome(jobs[number], run, how)
                outcomes[number] = outcome
                overall.ended(outcome)
    finally:
        for answer in running:
            ray.cancel(answer)


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        raise MissingExtraError("ray", f"--ray ({error.name})") from error
    return ray


@contextmanager
def connected_to_ray(address: str) -> Iterator[Any]:
    """Connect to a cluster, or start one here.

    Args:
        address: As for `do_on_ray`.

    Yields:
        Ray's module, while it is connected.

    Raises:
        MissingExtraError: Ray is not installed.
        OutputError: There is no such cluster.
    """
    ray = _import_ray()
    # It would report to its makers.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            log_to_driver=False,
            logging_level="error",
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise OutputError(
            f"--ray {address}: no cluster answers there ({reason}); start one with `ray start "
            "--head`, or say --ray local"
        ) from error
    finally:
        # Ray puts its own in place, which ends the process at once.
        if is_main:
            signal.signal(signal.SIGTERM, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def _cores(ray: Any) -> int:
    """The cores of the cluster, which may grow."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
