"""Small pure pieces that models share."""
