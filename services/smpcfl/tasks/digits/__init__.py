"""The bundled task: handwritten digits, and a small network that learns to read them.

`data` needs numpy alone; `model` needs torch, so neither is imported from here.
"""
