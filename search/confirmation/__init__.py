"""Confirmations: chosen configurations retrained on fresh seeds and judged on the test split, which only they open."""
