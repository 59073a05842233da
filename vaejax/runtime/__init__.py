"""Hosts, signals, files and memory: what a run needs of the machine."""
