"""Does it fit a TPU slice: python scripts/compile_check.py vae --topology v5e:2x4"""

from vaejax.cli.programs.compile_check import run

if __name__ == "__main__":
    run()
