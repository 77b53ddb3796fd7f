from dataclasses import replace

from benchmarks.decoding.text import decoding_text, picked_line


def rows(text: str, start: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0].startswith(start)]


def test_every_number_has_its_place(record):
    text = decoding_text(record)
    assert "reconstruction PSNR 25.2 dB on 20 test images" in text
    assert rows(text, "real test") == [["real test images", "400", "90.0", "reference"]]
    assert rows(text, "samples")[0][1:] == ["40", "50.0", "1234"]
    assert rows(text, "0.5") == [
        ["0.5", "1", "45.0", "3", "40.0"],
        ["0.5", "4", "60.0", "3", "40.0"],
    ]
    assert rows(text, "**1**") == [["**1**", "**4**", "**80.0**", "**3**", "**20.0**"]]
    assert (
        "--model.init_args.sampling.strength 1 --model.init_args.sampling.guidance_scale 4" in text
    )
    assert "standard error of up to 11.2 points" in text  # sqrt(0.25 / 20)


def test_it_says_whether_the_goal_is_reached(record):
    assert "It reaches the goal of 80.0 %" in picked_line(record)
    weak = replace(record, picked=record.settings[0], reached=False)
    assert "NO setting reaches the goal of 80.0 %" in picked_line(weak)
    assert picked_line(weak) in decoding_text(weak)
