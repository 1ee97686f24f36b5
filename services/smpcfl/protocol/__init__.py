"""Runs in every process: the pure core of a round, without sockets, clock or files."""
