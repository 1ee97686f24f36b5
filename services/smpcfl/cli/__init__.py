"""Runs on the command line: what a person types, and a whole stack as local processes."""
