"""Runs in the process of Flower's simulation engine: all virtual peers, their network, and their agents."""
