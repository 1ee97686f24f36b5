"""A frozen network with a low-rank adapter: the adapter alone is trained, sent, and summed."""
