"""Runs in the peer's process, the agent: shares, masks, agreements, and its place in the network."""
