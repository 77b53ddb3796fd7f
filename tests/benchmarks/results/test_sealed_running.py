"""The loop over cells whose results have a kind of their own: each once, shared among ranks, none lost by another."""

from dataclasses import dataclass, field
from pathlib import Path

from sealed_records import graph_record

from benchmarks.results.graphs import GRAPHS, GraphRecord
from benchmarks.results.running import SealedRun
from ddoq.finite import NotFiniteError


@dataclass
class Counted(SealedRun[int, GraphRecord]):
    """Makes a result a seed, of which some diverge."""

    output: Path
    diverging: tuple[int, ...] = ()
    made: list[int] = field(default_factory=list)

    kind = GRAPHS

    def places(self):
        return [0, 1, 2]

    def config(self, place):
        return graph_record(seed=place).config

    def name(self, place):
        return f"seed {place}"

    def evaluate(self, place, key):
        assert key == graph_record(seed=place).config_hash
        if place in self.diverging:
            raise NotFiniteError("too far")
        self.made.append(place)
        return graph_record(seed=place)

    def summary(self, place, record):
        return f"{self.name(place)}: {record.test_last}"


def test_every_cell_is_made_once(tmp_path, capsys):
    first, second, forced = Counted(tmp_path), Counted(tmp_path), Counted(tmp_path)
    new: list[GraphRecord] = []
    assert first.run(made=new.append) == second.run(made=new.append) == []
    assert (first.made, second.made) == ([0, 1, 2], [])
    assert new == first.records() == second.records()
    assert capsys.readouterr().out.splitlines() == [f"seed {n}: 0.5" for n in range(3)]
    assert forced.run(force=True, made=new.append) == []
    assert (forced.made, len(new)) == ([0, 1, 2], 6)


def test_ranks_share_the_cells(tmp_path):
    ranks = [Counted(tmp_path) for _ in range(2)]
    for number, run in enumerate(ranks):
        run.run(number, 2)
    assert [run.made for run in ranks] == [[0, 2], [1]]
    assert len(ranks[0].records()) == 3


def test_one_that_diverges_costs_no_other(tmp_path, capsys):
    run = Counted(tmp_path, diverging=(1,))
    assert run.run() == ["seed 1: too far"]
    assert "failed: seed 1: too far" in capsys.readouterr().out
    assert [record.cell.seed for record in run.records()] == [0, 2]


def test_a_damaged_result_is_made_again(tmp_path):
    run = Counted(tmp_path)
    run.run()
    run.path(1).write_text("{")
    again = Counted(tmp_path)
    assert [record.cell.seed for record in again.records()] == [0, 2]
    again.run()
    assert again.made == [1]
