"""Starting or joining Ray."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.data import DataContext

from geminga.distributed.joining import check_reachable, cluster_error, worker_environment
from geminga.errors import GemingaError

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
API_SERVER = "RAY_API_SERVER_ADDRESS"
"""Where Ray's own libraries ask for the state of the cluster they run in."""


@contextmanager
def ray_session(cores: int = 0) -> Iterator[None]:
    """Join the cluster this process was submitted to, or start Ray on this machine.

    Ray stays up for the next block, until `close_ray`: starting it anew for every stage takes longer
    than some stages.

    Parameters
    ----------
    cores : int
        Cores of a local Ray; 0 takes all. A cluster keeps its own.

    Raises
    ------
    InputError
        If the cluster cannot be joined.

    Notes
    -----
    A failure inside a worker that the user can mend is raised as the plain error it was.
    """
    if not ray.is_initialized():
        with _own_signals():
            _start_or_join(cores)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It would say of every run that its bars are off.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    try:
        yield
    except Exception as error:
        cause = _user_error(error)
        if cause is None or cause is error:
            raise
        raise cause from error


def _start_or_join(cores: int) -> None:
    """Join the cluster of RAY_ADDRESS, or start Ray on this machine."""
    if not sys.stderr.isatty():
        # Lines of workers in a log; colours are for a terminal.
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    address = os.environ.get("RAY_ADDRESS")
    if address:
        check_reachable(address)
        try:
            ray.init(
                log_to_driver=True,
                logging_level=logging.WARNING,
                runtime_env={"env_vars": worker_environment()},
            )
        except Exception as error:
            refused = cluster_error(error, address)
            if refused is None:
                raise
            raise refused from error
    else:
        # Without this a local Ray leaves a token in the home folder that later clusters demand.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        # It watches for nodes of a cluster that are taken away; here there is only one.
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        # Ray Train asks the dashboard for its own state and complains without one. Beside other
        # Rays of this machine it would not know which one to ask.
        port = _free_port()
        os.environ[API_SERVER] = f"http://{LOOPBACK}:{port}"
        ray.init(
            address="local",
            num_cpus=cores or os.cpu_count(),
            include_dashboard=True,
            dashboard_host=LOOPBACK,
            dashboard_port=port,
            logging_level=logging.WARNING,
        )


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        return int(listening.getsockname()[1])


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's answer to SIGTERM, if it has one: Ray's own says nothing."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def close_ray() -> None:
    """Leave the cluster, or stop the Ray of this machine."""
    if ray.is_initialized():
        ray.shutdown()
        if not os.environ.get("RAY_ADDRESS"):
            os.environ.pop(API_SERVER, None)


def cluster_size() -> tuple[int, int]:
    """Return cores and GPUs of the cluster as it is now.

    One without a core has shrunk to its head: its autoscaler brings nodes to work that waits, and
    nobody can say here how many.
    """
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return int(resources.get("CPU", 0)), int(resources.get("GPU", 0))


def _user_error(error: BaseException) -> GemingaError | None:
    """Find the user's error inside Ray's wrappers."""
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo:
        current = todo.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, GemingaError) and type(current).__module__.startswith("geminga"):
            return current
        linked = [current.__cause__, current.__context__, getattr(current, "cause", None)]
        failures = getattr(current, "worker_failures", None)
        if isinstance(failures, dict):
            linked.extend(failures.values())
        todo.extend(e for e in linked if isinstance(e, BaseException))
    return None
