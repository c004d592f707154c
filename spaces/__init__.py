"""What may vary in a sweep: search spaces as frozen data, one row per model, objective, update and optimizer."""
