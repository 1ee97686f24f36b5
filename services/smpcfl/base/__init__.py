"""Runs in every process: settings, metrics, files of a state folder, and waiting."""
