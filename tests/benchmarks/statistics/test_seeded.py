"""Tables of every kind as what is compared."""

from sealed_records import graph_record, transfer_record

from benchmarks.results.transfers import UNTRAINED
from benchmarks.statistics.seeded import seeded, seeded_graphs, seeded_transfers
from benchmarks.tables.folding import fold


def test_values_of_images_are_top1_after_the_last_epoch(result_of):
    results = [result_of(method="d4m", seed=s, distill_seed=7, top1=0.5 + s / 10) for s in (0, 1)]
    (table,) = seeded(fold(results))
    assert (table.place, table.short) == ("toy, 10 images per class", "toy, ipc 10")
    assert table.heading == "recipe unified"
    (row,) = table.rows
    assert row.values == {"resnet18": [((0, 7), 0.5), ((1, 7), 0.6)]}


def test_graphs_are_a_table_for_each_budget(result_of):
    records = [graph_record(ipc=ipc, seed=seed, test=0.5) for ipc in (1, 10) for seed in (0, 1)]
    first, second = seeded_graphs(records)
    assert (first.place, first.short) == ("toy, 1 graphs per class", "toy, ipc 1")
    assert first.recipe == first.heading == "500 epochs"
    assert second.place == "toy, 10 graphs per class"
    assert dict(second.rows[0].values["gcn"]) == {(0, 0): 0.5, (1, 0): 0.5}


def test_nodes_are_called_nodes():
    (table,) = seeded_graphs([graph_record(holds="nodes")])
    assert table.place == "toy, 10 nodes per class"
    assert table.measure == "Accuracy on real test nodes after the last epoch"


def test_a_network_without_pretraining_meets_every_seed_of_a_distillation():
    first, second = seeded_transfers(
        [transfer_record(seed=1, top1=0.5), transfer_record(UNTRAINED, seed=1, top1=0.25)]
    )
    assert [table.recipe for table in (first, second)] == ["fine-tuned", "probe"]
    values = {row.label: dict(row.values["resnet18"]) for row in first.rows}
    assert values == {"krr_st": {(1, 0): 0.5}, UNTRAINED: {(1, 0): 0.25}}
    (alone, _) = seeded_transfers([transfer_record(UNTRAINED, seed=1)])
    assert dict(alone.rows[0].values["resnet18"]) == {(1, None): 0.5}
