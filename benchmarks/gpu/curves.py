"""Stage `curves`: a small model learns in bfloat16 as it does in float32."""

import tempfile
from pathlib import Path

from ours import Training, batches_of, train_config, write_tokens
from stage import SHAPES, SMALL, case, finish, say_checked

SHAPE = SHAPES["small" if SMALL else "40M"] | {
    "microbatches": 1,
    "microbatch_size": 4 if SMALL else 16,
}
STEPS = 50
BOUND = 0.01  # relative, of each step's loss


def main() -> None:
    """Say both curves, and how far they are apart at most."""
    tokens = STEPS * SHAPE["microbatch_size"] * SHAPE["sequence_length"] + 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tokens.npy")
        write_tokens(path, vocab_size=SHAPE["vocab_size"], count=tokens, document=200)
        curves: dict[str, list[float]] = {}
        for precision in ("fp32", "amp_bf16"):
            config = train_config(SHAPE, path, precision=precision, compiled=False)
            training = Training(config)
            curves[precision] = [training.step(batch).item() for batch in batches_of(config, STEPS)]
        pairs = zip(curves["fp32"], curves["amp_bf16"], strict=True)
        apart = [abs(narrow - wide) / wide for wide, narrow in pairs]
        every_tenth = {name: curve[::10] + curve[-1:] for name, curve in curves.items()}
        say_checked(
            "float32 against bfloat16",
            steps=STEPS,
            bound=BOUND,
            apart=max(apart),
            at_the_end=apart[-1],
            **every_tenth,
            within=all(each <= BOUND for each in apart),  # NaN is not
        )


if __name__ == "__main__":
    with case("float32 against bfloat16"):
        main()
    finish()
