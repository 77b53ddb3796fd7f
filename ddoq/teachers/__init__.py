"""Teachers: networks trained on the real data, which label distilled images."""

from ddoq.teachers.accuracy import split_accuracies, teacher_accuracy
from ddoq.teachers.label_check import label_order_check, labels_disagree
from ddoq.teachers.pretrained import PretrainedTeacher
from ddoq.teachers.sources import TeacherSource
from ddoq.teachers.teacher import Teacher
from ddoq.teachers.trained import TrainedTeacher

__all__ = [
    "PretrainedTeacher",
    "Teacher",
    "TeacherSource",
    "TrainedTeacher",
    "label_order_check",
    "labels_disagree",
    "split_accuracies",
    "teacher_accuracy",
]
