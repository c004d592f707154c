"""What Tune takes for a lost worker: here, whatever Ray ends one for."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.tune.execution import tune_controller


class LostWorkerError(RayActorError):  # type: ignore[misc]
    """A worker that its machine's memory monitor killed, or whose objects went with a node; its text is Ray's."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said

    def __str__(self) -> str:
        return self.said

    def __reduce__(self) -> tuple[Any, ...]:
        return (LostWorkerError, (self.said,))


class _Manager(RayActorManager):  # type: ignore[misc]
    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = LostWorkerError(str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


@contextmanager
def all_losses_told() -> Iterator[None]:
    """Makes Tune restart the trials of all workers that Ray ends.

    Tune 2.60 knows two kinds of errors of an actor and dies of every other one, such as Ray's OutOfMemoryError. It
    looks the class up by name when it builds its controller.
    """
    before = tune_controller.RayActorManager
    tune_controller.RayActorManager = _Manager
    try:
        yield
    finally:
        tune_controller.RayActorManager = before
