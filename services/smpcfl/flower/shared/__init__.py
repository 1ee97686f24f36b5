"""Runs in ClientApp and ServerApp: what both sides put into Flower's messages."""
