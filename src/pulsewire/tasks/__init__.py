"""Task queues that share Redis byte for byte with Go's asynq: priorities, retries, schedules, uniqueness, groups.

`hub.tasks` enqueues, `hub.task_server` runs, `hub.scheduler` enqueues periodic tasks, `hub.tasks.inspector` looks and
intervenes. `App` puts typed functions on top. The format is asynq's (spec/asynq.md); `docs/tasks-vs-asynq.md` says
where we behave safer than Go on the same bytes.
"""

from __future__ import annotations

from pulsewire.errors import Retry, RevokeTask, SkipRetry
from pulsewire.tasks.apps.app import App
from pulsewire.tasks.apps.functions import TaskFunction, TaskOptions
from pulsewire.tasks.apps.lifeline import hold_lifeline
from pulsewire.tasks.apps.supervisor import PLACE_VARIABLE, supervise
from pulsewire.tasks.apps.worker import Worker, WorkerOptions
from pulsewire.tasks.client import TaskClient
from pulsewire.tasks.inspecting.inspector import Inspector
from pulsewire.tasks.inspecting.views import (
    DailyStats,
    EnqueueEvent,
    GroupInfo,
    NodeInfo,
    QueueInfo,
    QueuePlacement,
    SchedulerEntry,
    ServerInfo,
    WorkerInfo,
)
from pulsewire.tasks.mux import Mux
from pulsewire.tasks.retry import default_delay
from pulsewire.tasks.scheduling.cron import Cron
from pulsewire.tasks.scheduling.periodic import PeriodicTask, PeriodicTaskManager
from pulsewire.tasks.scheduling.scheduler import Scheduler
from pulsewire.tasks.semaphore import Semaphore
from pulsewire.tasks.serving.options import ServerOptions
from pulsewire.tasks.serving.server import TaskServer
from pulsewire.tasks.states import TaskState
from pulsewire.tasks.task import Task, current_task
from pulsewire.tasks.wire import NewTask, TaskInfo

__all__ = [
    "PLACE_VARIABLE",
    "App",
    "Cron",
    "DailyStats",
    "EnqueueEvent",
    "GroupInfo",
    "Inspector",
    "Mux",
    "NewTask",
    "NodeInfo",
    "PeriodicTask",
    "PeriodicTaskManager",
    "QueueInfo",
    "QueuePlacement",
    "Retry",
    "RevokeTask",
    "Scheduler",
    "SchedulerEntry",
    "Semaphore",
    "ServerInfo",
    "ServerOptions",
    "SkipRetry",
    "Task",
    "TaskClient",
    "TaskFunction",
    "TaskInfo",
    "TaskOptions",
    "TaskServer",
    "TaskState",
    "Worker",
    "WorkerInfo",
    "WorkerOptions",
    "current_task",
    "default_delay",
    "hold_lifeline",
    "supervise",
]
