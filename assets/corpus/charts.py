"""The bars that the assets of the corpus show beside their tables."""

from assets.node import Chart

CLUSTERS = Chart(table="clusters", labels=("documents",), values=("clusters",))
FILTERED = (
    Chart(
        table="sources", labels=("source",), values=("kept_bytes", "dropped_bytes"), stacked=True
    ),
    Chart(table="dropped by rule", labels=("source", "rule"), values=("dropped",)),
)
LENGTHS = Chart(table="lengths", labels=("tokens_up_to",), values=("documents",))
SCORES = Chart(
    table="scores", labels=("source", "tagger", "label"), values=("documents", "at_least_half")
)
SHARES = Chart(table="sources", labels=("source",), values=("planned_share", "share"))
