"""Runs in the ClientApp, one process a message: the mod that masks what the app trained."""
