"""Changes to the files of a recipe."""

from pathlib import Path

TINY = Path(__file__).parents[1] / "recipes" / "tiny"


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def set_ingredients(recipe: Path, ingredients: str) -> None:
    lines = (recipe / "stage2.yaml").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("ingredients:"))
    end = start + 1
    while end < len(lines) and lines[end].startswith((" ", "-")):
        end += 1
    lines[start:end] = [f"ingredients: {ingredients}"]
    (recipe / "stage2.yaml").write_text("\n".join(lines) + "\n")
