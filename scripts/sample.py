"""Samples from a run: python scripts/sample.py runs/a --num 64 --out samples.png"""

from vaejax.cli.programs.sample import run

if __name__ == "__main__":
    run()
