"""Load of the machine the pipeline runs on, sampled while it runs."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from geminga.errors import GemingaError

logger = logging.getLogger(__name__)

_INTERVAL = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
_SAMPLES = "MLFLOW_SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING"
INTERVAL_S = 10.0
SAMPLES = 6
"""Samples a point is the mean of."""

Points = list[tuple[str, float, int, int]]


@contextmanager
def system_metrics(send: Callable[[Points], None]) -> Iterator[None]:
    """Sample CPU, memory, disk, network and GPU with MLflow's own monitors inside the block.

    MLflow's thread of the same purpose stops for good when a server is away; this one goes through
    the journal. Its environment variables MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL and
    ..._SAMPLES_BEFORE_LOGGING apply.
    """
    if importlib.util.find_spec("psutil") is None:
        logger.info("no system metrics: psutil is not installed")
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    untyped: Any = SystemMetricsMonitor
    monitor = untyped(run_id=None)
    interval = float(os.environ.get(_INTERVAL) or INTERVAL_S)
    samples = int(os.environ.get(_SAMPLES) or SAMPLES)
    ended = threading.Event()
    start = time.monotonic()

    def publish() -> None:
        now = time.time_ns() // 1_000_000
        step = round(time.monotonic() - start)
        values = monitor.aggregate_metrics()
        send([(f"system/{key}", float(value), now, step) for key, value in values.items()])
        for one in monitor.monitors:
            one.clear_metrics()

    def sample() -> None:
        taken = 0
        while True:
            monitor.collect_metrics()
            taken += 1
            last = ended.wait(interval)
            if last or taken == samples:
                try:
                    publish()
                except GemingaError as error:
                    # What they are kept in is full, say: the work meets that itself, and says so.
                    logger.warning("no more system metrics: %s", error)
                    return
                taken = 0
            if last:
                return

    thread = threading.Thread(target=sample, name="system metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
