"""Evaluates a run: python scripts/evaluate.py runs/a --samples 5000"""

from vaejax.cli.programs.evaluate import run

if __name__ == "__main__":
    run()
