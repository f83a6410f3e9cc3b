"""The command line, a module for each room of `hmoe`. Only what a command needs is imported, when it is called.

A command imports its room inside its function: `hmoe --help` then takes a fifth of a second instead of seconds of
PyTorch, pandas and librosa. So the commands stand here and not in the rooms, whose packages load all that.
"""
