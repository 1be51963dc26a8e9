"""Part `curves`: a small model learns in bfloat16 as it does in float32."""

from ours import Training, data_of
from part import SHAPES, SMALL, case, finish, say_checked

SHAPE = SHAPES["small" if SMALL else "40M"] | {
    "microbatches": 1,
    "microbatch_size": 4 if SMALL else 16,
}
STEPS = 50
BOUND = 0.01  # relative, of each step's loss


def main() -> None:
    """Say both curves, and how far they are apart at most."""
    curves: dict[str, list[float]] = {}
    for precision in ("fp32", "amp_bf16"):
        config, batches = data_of(SHAPE, STEPS, document=200, precision=precision, compiled=False)
        training = Training(config)
        curves[precision] = [training.step(batch).item() for batch in batches]
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
