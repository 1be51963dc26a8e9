"""What the drills have shown, as a table: drill, bar, seen."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of this session, in the order in which the drills ended."""

    rows: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])

    def add(self, drill: str, bar: str, seen: str) -> None:
        self.rows.append((drill, bar, seen))

    def lines(self) -> list[str]:
        """As Markdown; nothing where no drill was run."""
        if not self.rows:
            return []
        head = [("drill", "bar", "seen"), ("---", "---", "---")]
        return ["", *(f"| {' | '.join(row)} |" for row in [*head, *self.rows])]


TABLE = Table()
