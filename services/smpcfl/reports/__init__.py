"""Runs in the aggregator and on the command line: what is kept of each round, and reports of it."""
