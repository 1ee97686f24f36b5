"""Runs in the aggregator, in the ServerApp and on the command line: records of rounds, and reports."""
