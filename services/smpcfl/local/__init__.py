"""The whole stack as processes of one machine, on loopback: the same code as in the containers."""
