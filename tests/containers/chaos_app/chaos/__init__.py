"""A Flower app for the chaos test. Peers learn noise: what matters is that the sum is exact."""
