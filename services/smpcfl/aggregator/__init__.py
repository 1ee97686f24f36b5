"""The aggregator: Flower's SuperLink, and what a round needs beside it."""
