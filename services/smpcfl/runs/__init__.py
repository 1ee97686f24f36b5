"""Runs in the aggregator and in the ServerApp: the run in hand, its checkpoints, its events."""
