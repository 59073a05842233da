"""Writes RESULTS.md and the README's table from results/rows: make results"""

from pathlib import Path

from vaejax.reproduction.catalogue import catalogue
from vaejax.reproduction.pages import PAGE, readme_table, results_page, with_table

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "results" / "rows"


def generated() -> dict[Path, str]:
    """The content of both files."""
    readme, every = ROOT / "README.md", catalogue()
    text = with_table(readme.read_text("utf-8"), readme_table(every, ROWS))
    return {readme: text, ROOT / PAGE: results_page(every, ROWS)}


if __name__ == "__main__":
    for path, content in generated().items():
        path.write_text(content, "utf-8")
