"""Runs Flower's own processes as children, and inside these: what we add to them."""
