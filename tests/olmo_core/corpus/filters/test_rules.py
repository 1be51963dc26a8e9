"""Filter rules by hand; that dolma's jq agrees is tested with the asset `filtered`."""

from typing import Any

import pytest

from olmo_core.corpus.document import Document
from olmo_core.corpus.filters.rules import BLANK, Rule, Verdict, check_families
from olmo_core.errors import ConfigError

TEXT = "0123456789"
ATTRIBUTES: dict[str, Any] = {
    "tags__t__count": [[0, 10, 7.0]],
    "tags__t__lines": [[0, 2, 1.0], [4, 5, 1.0]],
    "tags__t__nothing": [[0, 10, 0.0]],
    "tags__t__none": [],
}


@pytest.mark.parametrize(
    ("attribute", "measure", "value"),
    [
        ("count", "score", 7),
        ("lines", "score", 1),
        ("none", "score", 0),
        ("absent", "score", 0),
        ("lines", "spans", 2),
        ("absent", "spans", 0),
        ("lines", "share", 0.3),
        ("nothing", "share", 0.0),  # one span over everything, of score 0, says "nothing found"
        ("absent", "share", 0.0),
    ],
)
def test_a_rule_drops_strictly_beyond_its_bound(attribute: str, measure: Any, value: float) -> None:
    def rule(*, above: float | None = None, below: float | None = None) -> Rule:
        name = f"tags__t__{attribute}"
        return Rule(name="r", attribute=name, measure=measure, above=above, below=below)

    assert rule(above=1).value(TEXT, ATTRIBUTES) == pytest.approx(value)
    exact = rule(above=1).value(TEXT, ATTRIBUTES)
    assert not rule(above=exact).drops(TEXT, ATTRIBUTES)
    assert not rule(below=exact).drops(TEXT, ATTRIBUTES)
    assert rule(above=exact - 0.01).drops(TEXT, ATTRIBUTES)
    assert rule(below=exact + 0.01).drops(TEXT, ATTRIBUTES)


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), float("-inf")])
def test_a_bound_is_finite(bound: float) -> None:
    with pytest.raises(ConfigError, match=rf"rule r: bound {bound}: expected a finite number"):
        Rule(name="r", attribute="tags__t__count", below=bound)


def test_the_first_rule_that_drops_is_the_reason() -> None:
    few = Rule(name="few", attribute="tags__t__count", below=5)
    many = Rule(name="many", attribute="tags__t__count", above=5)
    short = Rule(name="short", attribute="tags__t__lines", measure="share", above=0.1)
    for rules, reason in (
        ([few, many, short], {"many": 1}),
        ([few, short, many], {"short": 1}),
        ([few], {}),
    ):
        verdict = Verdict(rules=rules)
        verdict.add(Document(id="s/1", text=TEXT, source="s"), ATTRIBUTES, TEXT)
        assert verdict.reasons == reason
        assert verdict.matches == {rule.name: 1 for rule in rules if rule is not few}


def test_words_are_counted_per_rule_and_as_they_stay() -> None:
    long = Rule(name="long", attribute="tags__t__count", above=1)
    verdict = Verdict(rules=[long])
    for text, count, left in (
        ("  three\tlittle\u00a0words ", 2, "all the same"),
        ("two more", 3, "gone"),
        ("one@example.org writes", 0, "|||EMAIL||| writes still"),
        ("nothing is left", 0, " "),
    ):
        document = Document(id="s/1", text=text, source="s")
        verdict.add(document, {"tags__t__count": [[0, 1, count]]}, left)
    whole = Verdict(rules=[long])
    for _ in range(2):
        whole.join(verdict.facts())
    assert whole.dropped_words == {"long": 2 * (3 + 2), BLANK: 2 * 3}
    assert whole.kept_words == 2 * 3  # with its mask


@pytest.mark.parametrize(("above", "below"), [(None, None), (1.0, 2.0)])
def test_a_rule_has_one_bound(above: float | None, below: float | None) -> None:
    with pytest.raises(ConfigError, match="exactly one of above, below"):
        Rule(name="r", attribute="tags__t__count", above=above, below=below)


def test_an_attribute_must_be_a_name_and_something_must_have_written_it() -> None:
    with pytest.raises(ConfigError, match="expected a name such as"):
        Rule(name="r", attribute=".attributes | length", above=1)
    rules = [("r", "tags__other__count")]
    check_families(rules, {"tags__other__words"}, "prose")
    with pytest.raises(ConfigError, match=r"prose: r: no document has .*'tags__other'; found"):
        check_families(rules, set(ATTRIBUTES), "prose")
