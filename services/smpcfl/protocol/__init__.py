"""The pure core: no sockets, no clock, no files. Imports the standard library, numpy and cryptography."""
