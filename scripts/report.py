"""A page about a run, or the runs of a study: python scripts/report.py runs/a"""

from vaejax.cli.programs.report import run

if __name__ == "__main__":
    run()
