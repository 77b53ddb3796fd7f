import inspect

from ddoq.ddoq import DDOQ
from ddoq.priors import PretrainedPrior, TrainedPrior
from ddoq.smoke import Tiny, accepted, lower
from ddoq.teachers import PretrainedTeacher, TrainedTeacher


class Plain(Tiny):
    """A class that says nothing of its own."""

    def __init__(self, steps: int, epochs: int, width: int = 3, compile: bool = False) -> None:
        pass


def test_a_class_that_says_nothing_gets_the_usual_counts_lowered():
    given = {"steps": 1000, "epochs": {1: 20, 10: 30}, "width": 64, "compile": True}
    assert Plain.tiny(given) == {"steps": 2, "epochs": 1, "compile": False}
    assert Plain.tiny({"steps": None}) == {"epochs": 1, "compile": False}


def test_what_is_tiny_already_stays():
    assert lower(1, 2) == 1
    assert Plain.tiny({"steps": 1, "epochs": 1}) == {"steps": 1, "epochs": 1, "compile": False}


def test_only_arguments_of_the_constructor_are_changed():
    assert accepted(Plain, {"steps": 1, "lr": 2}) == {"steps": 1}
    for kind in (DDOQ, TrainedPrior, TrainedTeacher):
        assert set(kind.tiny({})) <= set(inspect.signature(kind.__init__).parameters), kind


def test_what_needs_downloads_has_a_stand_in():
    assert (PretrainedPrior.stand_in, TrainedPrior.stand_in) == ("ddoq.priors.TrainedPrior", None)
    assert PretrainedTeacher.stand_in == "ddoq.teachers.TrainedTeacher"
