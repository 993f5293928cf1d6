"""The test bed's model repository: its settings, the writer, and the models that Triton's Python backend runs.

`images.py` and the ``model_*.py`` files run inside the server, in an environment without this package; they are
copied beside each other and import nothing of ours.
"""
