"""How a trained model is judged: full ranking over all items."""
