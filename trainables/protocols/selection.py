"""Which of the corruptions asked for apply to a data set and a model. Importable without torch."""

from collections.abc import Collection
from dataclasses import dataclass

from trainables.errors import ModelError
from trainables.protocols.config import CorruptionConfig, RobustnessConfig


@dataclass(frozen=True)
class Judged:
    """What decides whether a corruption applies.

    Attributes:
        dataset, model: their names.
        modalities: that the data set has.
        uses_features: whether the model looks at them.
        item_embeddings: whether the model has trainable embeddings of items.
    """

    dataset: str
    model: str
    modalities: Collection[str]
    uses_features: bool
    item_embeddings: bool

    def objection(self, corruption: CorruptionConfig) -> str | None:
        """Why the corruption does not apply, as one sentence; None where it does."""
        kind, phase = corruption.kind, corruption.phase
        if kind == "item_embedding":
            if phase == "train_test":
                return "item_embedding is noise on trained weights and has only phase 'test', but got 'train_test'"
            if not self.item_embeddings:
                return f"item_embedding needs a model with embeddings of items, but {self.model} has none"
            return None
        if kind == "visual_redundancy" and phase == "test":
            return "visual_redundancy changes the width of features and has only phase 'train_test', but got 'test'"
        if not self.uses_features:
            return f"{kind} needs a model that uses modality features, but {self.model} does not"
        return self._missing_modality(kind)

    def _missing_modality(self, kind: str) -> str | None:
        has = f"data set {self.dataset!r} has {', '.join(self.modalities) or 'none'}"
        if kind in ("text_redundancy", "information_adjustment") and "text" not in self.modalities:
            return f"{kind} needs the modality text, but {has}"
        if kind == "visual_redundancy" and "image" not in self.modalities:
            return f"{kind} needs the modality image, but {has}"
        if kind == "information_adjustment" and len(self.modalities) < 2:
            return f"{kind} needs a modality beside text, but {has}"
        return None


def applicable(settings: RobustnessConfig, judged: Judged) -> list[CorruptionConfig]:
    """The corruptions of the protocol, in the order of the settings.

    A corruption that was asked for by name and does not apply is an error; where none was named, it is left out.

    Raises:
        ModelError: such a corruption, or none is left.
    """
    chosen = []
    for corruption in settings.listed():
        objection = judged.objection(corruption)
        if objection is None:
            chosen.append(corruption)
        elif settings.corruptions is not None:
            raise ModelError(objection)
    if not chosen:
        raise ModelError(
            f"a robustness protocol must have a corruption that applies, but in the phases asked for none does to model"
            f" {judged.model} on data set {judged.dataset!r}"
        )
    return chosen
