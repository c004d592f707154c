"""Data sets: reading, checking, splitting, sampling; the sealed test split; the embedded synthetic data set."""
