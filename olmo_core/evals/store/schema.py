"""The store of results: `<root>/results/<recipe>/<asset>/`, one Parquet file per evaluation job.

A file is added when an evaluation has ended and never changed, so that the figures outlive the run
folders that they are from. Its name is
`[<checkpoint>--]<version of the run folder>--<beginning of the file's SHA-256>.parquet`.
"""

import pyarrow as pa

FOLDER = "results"  # below the root of results
SCHEMA_VERSION = 1
VERSION_KEY = b"schema_version"  # of a file's metadata

# Jobs whose rows are kept. `leaderboard` is no such job: it joins the rows of others.
ASSETS = ("downstream", "perplexity", "checkpoint_downstream", "checkpoint_perplexity")

# Columns that files of earlier versions lack; there they are null.
ADDED_COLUMNS = ("tokens_before", "training")

SCHEMA = pa.schema(
    [
        # As the evaluation has written them: `olmo_core.evals.rows`.
        ("recipe", pa.string()),
        ("run", pa.string()),
        ("seed", pa.int64()),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("step", pa.int64()),
        ("tokens", pa.int64()),
        ("task", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("stderr", pa.float64()),
        ("n", pa.int64()),
        ("truncated", pa.int64()),
        ("headline", pa.bool_()),
        ("chance", pa.float64()),
        ("task_version", pa.string()),
        ("num_fewshot", pa.int64()),
        ("limit", pa.int64()),
        ("limit_to", pa.string()),
        ("sample_seed", pa.int64()),
        ("split", pa.string()),
        ("data_sha256", pa.string()),
        ("model_sha256", pa.string()),
        ("library", pa.string()),
        # Of which evaluation the figure is, and what else would repeat it.
        ("evaluation", pa.string()),  # SHA-256 of the run's identity and content: the same job
        ("asset", pa.string()),  # that was made: one of `ASSETS`, or `in_loop`
        ("evaluated_for", pa.string()),  # the recipe that asked; `recipe` is that of the weights
        ("partition", pa.string()),  # of a sweep, the checkpoint: stage1@step100
        ("fingerprint", pa.string()),  # of the evaluation
        ("folder", pa.string()),  # its run folder, below the root; documents.parquet is there
        ("finished", pa.timestamp("us", tz="UTC")),
        ("checkpoint_sha256", pa.string()),  # of a sweep: of the manifest of the checkpoint's files
        ("task_sha256", pa.string()),  # equal: figures compare. Prompts, data, sample, examples
        ("config", pa.string()),  # JSON: the section of evals.yaml, complete
        ("packages", pa.string()),  # JSON: versions of the packages that count
        ("code_sha256", pa.string()),  # of the code that counts
        ("commit", pa.string()),  # of the checkout; `+` where it had been edited
        ("device", pa.string()),  # cuda, cpu; null where an earlier version evaluated
        # Behind the weights, and not in `tokens`: what their run began from had read them. Null:
        # not known, or written by an earlier version.
        ("tokens_before", pa.int64()),
        # Of an in-loop figure: which training of its run folder, where one has begun again.
        ("training", pa.string()),
    ],
    metadata={VERSION_KEY: str(SCHEMA_VERSION)},
)
