"""Runs on the command line, `smpcfl bench`: what secrets and whole rounds cost on this machine."""
