"""`smpcfl bench`: what the arithmetic, the secrets and whole rounds cost on this machine."""
