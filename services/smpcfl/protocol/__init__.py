"""Runs in peers, ClientApps and ServerApps: the pure core of a round, without sockets, clock or files."""
