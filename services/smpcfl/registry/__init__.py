"""The registry: a small CA, the roster of peers, and the list of targets for Prometheus."""
