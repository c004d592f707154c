"""What can go wrong with a search space: one class."""


class SpaceError(ValueError):
    """A search space is ill-formed or a point lies outside it; its text is one sentence for a person."""
