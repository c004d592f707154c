"""What can go wrong in the service, as one hierarchy.

ValueError
  SearchError             everything that a user can cause and mend
    SpecError             a sweep file or an override breaks a rule
    StoreError            the result store is missing, not writable or does not hold what is asked for
    QueryError            an SQL statement that is not allowed or does not run
    ResumeError           a sweep cannot be resumed as it is asked for
    ComparisonError       the stored trials cannot support the comparison that was asked for
"""


class SearchError(ValueError):
    """A mistake in what the user gave; its text is one sentence for a person."""


class SpecError(SearchError):
    """A sweep file, a key of it or an override is wrong."""


class StoreError(SearchError):
    """The store cannot be read or written, or lacks what was asked for."""


class QueryError(SearchError):
    """An SQL statement is not a single SELECT, or fails."""


class ResumeError(SearchError):
    """A stored sweep cannot go on as it is asked for."""


class ComparisonError(SearchError):
    """The stored trials do not meet an estimator's assumptions."""


class DamagedPart(UserWarning):
    """A part of the result store cannot be read; its rows are missing until it is replaced or removed."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(f"the part {part} of the result store is damaged and passed over: {reason}")
