"""Draws pictures of a run: python scripts/plot.py runs/demo --what samples latents"""

from vaejax.cli.programs.plot import run

if __name__ == "__main__":
    run()
