"""Seeds x settings of a preset: python scripts/study.py vae --beta 1 2 4 --seeds 5"""

from vaejax.cli.programs.study import run

if __name__ == "__main__":
    run()
