from benchmarks.planning.speed import Rate
from benchmarks.planning.text import plan_text
from ddoq.costs.workload import Stage

RATE = Rate("a device", "bf16", 100.0, 0.5)
ENCODE = Stage("encode", "VAE encoder", 1200, 180 * 10**15, {"latents": 2_500_000}, 7 * 10**9, 16)
QUANTISE = Stage("quantise", "", 0, 360 * 10**15, at_most=True)


def lines(text: str) -> dict[str, list[str]]:
    """Return the cells of table lines by their first cell."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def test_stages_are_written_with_units():
    rows = lines(plan_text({10: [ENCODE, QUANTISE]}, RATE))
    assert rows["stage"][-2:] == ["hours", "note"]
    encode = ["VAE encoder", "1,200", "16", "180 P", "latents 2.5 MB", "7 GB", "1", ""]
    assert rows["encode"] == encode
    assert rows["quantise"] == ["", "", "", "at most 360 P", "", "", "at most 2", ""]


def test_hours_need_a_speed():
    text = plan_text({10: [ENCODE]}, None)
    assert "hours" not in lines(text)["stage"]
    assert "Hours:" not in text


def test_several_budgets_are_summed_up():
    text = plan_text({10: [ENCODE, QUANTISE], 50: [ENCODE, Stage.unknown("distil", "why")]}, RATE)
    rows = lines(text.split("#### All")[1])
    assert rows["10"] == ["540 P", "2.5 MB", "7 GB", "3"]
    assert rows["50"] == ["unknown", "2.5 MB", "7 GB", "at least 1"]
    assert "#### All" not in plan_text({10: [ENCODE]}, RATE)
