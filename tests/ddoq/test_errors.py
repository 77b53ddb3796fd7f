import pytest

from ddoq.errors import UserError, suggest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lloid", "Did you mean 'lloyd'? Valid: clvq, lloyd, random."),
        ("LLOYD!", "Valid: clvq, lloyd, random."),
        ("", "Valid: clvq, lloyd, random."),
    ],
)
def test_suggest_offers_the_nearest_only_if_it_is_near(name, expected):
    assert suggest(name, ["random", "lloyd", "clvq"]) == expected


def test_suggest_takes_any_iterable():
    assert suggest("b", {"b1": 0, "a": 1}) == "Did you mean 'b1'? Valid: a, b1."
    assert suggest("b", iter(["a"])) == "Valid: a."


def test_user_error_shows_its_message_alone():
    assert str(UserError("data.yaml: no key 'ipc'.")) == "data.yaml: no key 'ipc'."
    assert not issubclass(
        UserError, (ValueError, OSError)
    )  # code that catches those must not swallow it
