"""A small regression, trained with one strategy after another."""
