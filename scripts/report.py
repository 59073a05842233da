"""A page about a run, or one that compares several: python scripts/report.py runs/a"""

from vaejax.cli.programs.report import run

if __name__ == "__main__":
    run()
