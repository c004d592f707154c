"""The Tune adapter of a trial: one step is one epoch. The only module of this package that imports Ray.

It leaves PyTorch to the workers: the driver holds this class, too, for as long as a sweep lasts.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from trainables.checkpoint_places import CheckpointPlan
from trainables.data.bundle import DataBundle
from trainables.shares import Resources


class RecommenderTrainable(tune.Trainable):  # type: ignore[misc]
    """Runs trials under Ray Tune by a `TrialRunner`; the flat configuration of the trial is `config["trial"]`, its name
    is `config["name"]`, and `config["resources"]`, where it is given, is its (cpu, gpu).

    What goes wrong in a configuration is a result, not an exception: Tune retries exceptions, and these would only come
    again. What Tune sees fail is therefore a lost worker. Workers are reused: `reset_config` builds the next trial in
    the same process.

    Every result has `epoch`, `score` (the last validated value of the goal metric, with early validation at first its
    estimate), `validated`, `status`, `done`, `losses`, `validation`, `earlier`, `warning` (None, or why no checkpoint
    could be saved) and the counters of `Progress`.
    """

    def setup(
        self,
        config: dict[str, Any],
        bundles: Mapping[str, DataBundle],
        resources: Resources,
        plan: CheckpointPlan | None = None,
    ) -> None:
        """Builds the trial; an error in it is kept for the first step, where it can be reported."""
        from trainables.trial_runner import TrialRunner

        share = Resources(*config["resources"]) if "resources" in config else resources
        self.runner = TrialRunner(bundles, share, plan)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Replaces the trial by another one in the same process."""
        self.runner.build(new_config["name"], new_config["trial"])
        return True

    def step(self) -> dict[str, Any]:
        """One epoch, with a validation where due and a checkpoint where due."""
        return self.runner.epoch()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Saves the trial for Tune; a trial that could not be built saves nothing."""
        self.runner.save(Path(checkpoint_dir))

    def load_checkpoint(self, checkpoint: str) -> None:
        """Goes back to a state that was saved for Tune."""
        self.runner.load(Path(checkpoint))

    def cleanup(self) -> None:
        """Lets go of the trial's memory."""
        self.runner.let_go()
