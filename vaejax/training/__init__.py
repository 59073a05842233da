"""One training: the loop, the step, and all that a run keeps."""
