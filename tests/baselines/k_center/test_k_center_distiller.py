import torch

from baselines.k_center import KCenter
from ddoq.images import to_float
from ddoq.selection import k_center


def test_selects_by_the_teachers_features(make_data, colour_teacher, trainer, tmp_path):
    data = make_data()
    distiller = KCenter(ipc=4)
    distiller.attach(data, teacher=colour_teacher(data))
    distilled, folder = distiller.run(trainer, tmp_path)
    assert folder.name.startswith("k-center-ipc4-")
    for label in range(3):
        positions = data.train.of_class(label)
        images = data.train.load(positions.tolist())
        features = (to_float(images).mean((2, 3)) - 0.5) / 0.25
        expected = images[k_center(features, 4)]
        assert torch.equal(distilled.images[distilled.labels == label], expected)


def test_a_smaller_budget_is_contained_in_a_larger_one(make_data, colour_teacher):
    data = make_data()
    kept = []
    for ipc in (2, 6):
        distiller = KCenter(ipc=ipc)
        distiller.attach(data, teacher=colour_teacher(data))
        kept.append([distiller.distill(i).info["indices"] for i in distiller.work_items(data)])
    assert [indices[:2] for indices in kept[1]] == kept[0]
