"""Runs in the registry's process: CA, roster of peers, and targets for Prometheus."""
