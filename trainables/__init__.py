"""How one trial trains: data, models, objectives, updates, evaluation, and the Tune adapter around them."""
