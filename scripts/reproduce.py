"""Makes published numbers again: python scripts/reproduce.py vae_flax_example"""

from vaejax.cli.programs.reproduce import run

if __name__ == "__main__":
    run()
