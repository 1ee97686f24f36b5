"""Runs in ClientApp and ServerApp: the bundled training tasks, ordinary Flower apps."""
