"""Seeds and settings of a preset, trained side by side."""
