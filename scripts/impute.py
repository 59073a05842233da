"""Fills holes: python scripts/impute.py runs/a --input data.csv --out filled.csv"""

from vaejax.cli.programs.impute import run

if __name__ == "__main__":
    run()
