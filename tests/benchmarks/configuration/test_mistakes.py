import pytest

import ddoq.ddoq  # noqa: F401
from benchmarks.configuration.mistakes import concrete_subclasses, explain, parameters
from ddoq.ddoq import DDOQ
from ddoq.distillation.distiller import Distiller
from ddoq.latents.quantization import LatentQuantization


def wrapped(inner: str, key: str = "model") -> str:
    """Build a message as jsonargparse words it for a subclass that may be absent."""
    return (
        f'Parser key "{key}":\n  Does not validate against any of the Union subtypes\n'
        f"  Subtypes: [<class 'X'>, <class 'NoneType'>]\n  Errors:\n    - {inner}\n"
        "    - Expected a <class 'NoneType'>\n  Given value type: <class 'dict'>\n  Given value: {}"
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (wrapped("Expected a dot import path string: DDOK"), "Unknown class 'DDOK' for `model`. Did you mean 'DDOQ'?"),
        (
            wrapped("Problem with given class_path 'ddoq.ddoq.DDOQ':\n        Option 'ipcc' is not accepted"),
            "Unknown key 'ipcc' of DDOQ. Did you mean 'ipc'?",
        ),
        (
            wrapped(
                "Problem with given class_path 'ddoq.ddoq.DDOQ':\n"
                "        Group 'quantizer' does not accept option 'methd'"
            ),
            "Unknown key 'quantizer.methd' of DDOQ. Did you mean 'method'?",
        ),
        (
            wrapped(
                "Problem with given class_path 'ddoq.ddoq.DDOQ':\n"
                "        unrecognized arguments: --sampling.strngth=1"
            ),
            "Unknown key 'sampling.strngth' of DDOQ. Did you mean 'strength'?",
        ),
        ("unrecognized arguments: --studnts []", "Unknown key 'studnts'. Did you mean 'students'?"),
        ("Subcommand 'fit' does not accept option 'recipee.name'", "Unknown key 'recipee'. Did you mean 'recipe'?"),
    ],
)  # fmt: skip
def test_the_nearest_name_is_told(message, expected):
    assert explain(message).startswith(expected)


def test_other_messages_keep_what_matters():
    message = wrapped(
        "Problem with given class_path 'ddoq.ddoq.DDOQ':\n        Parser key \"ipc\":\n"
        "          Expected a <class 'int'>. Got value: many"
    )
    told = explain(message)
    assert "Got value: many" in told
    assert '"ipc"' in told
    assert "NoneType" not in told
    assert "Union" not in told


def test_messages_of_another_form_are_passed_on():
    assert explain("Something else.") == "Something else."


def test_only_classes_that_can_be_made_are_offered():
    known = set(concrete_subclasses(Distiller))
    assert DDOQ in known
    assert LatentQuantization not in known


def test_parameters_are_those_of_the_constructor():
    assert list(parameters(DDOQ))[:3] == ["ipc", "seed", "quantizer"]
    assert parameters(None) == {}
