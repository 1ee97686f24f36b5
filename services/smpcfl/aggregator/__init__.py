"""Runs in the aggregator's process: sees to Flower's SuperLink and to the training run in hand."""
