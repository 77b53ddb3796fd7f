import json

from benchmarks.results.files import read_result, write_result
from benchmarks.results.rerun import LEFT_OUT, places_left_out, rerun_config

CONFIG = {
    "seed_everything": 0,
    "data": {"class_path": "ImageFolderImages", "init_args": {"root": "/home/me/x", "prompt": "a"}},
    "model": {"class_path": "DDOQ", "init_args": {"ipc": 1, "parts": ["~/a", "b/c"]}},
    "trainer": {"accelerator": "cpu", "devices": 2},
    "students": [{"arch": "a"}],
    "output": "/home/me/runs",
    "wandb": {"entity": "me"},
    "distilled": None,
}


def test_what_decides_numbers_is_kept_without_places():
    kept = rerun_config(CONFIG)
    assert set(kept) == {"seed_everything", "data", "model", "trainer"}
    assert kept["data"]["init_args"] == {"root": LEFT_OUT, "prompt": "a"}
    assert kept["trainer"] == {"accelerator": "cpu"}
    places = ["data.init_args.root", "model.init_args.parts.0"]
    assert sorted(places_left_out(kept)) == places
    assert "/home" not in json.dumps(kept)
    assert rerun_config({}) is None


def test_files_without_one_read_and_hash_as_ever(tmp_path, result_of):
    result = result_of()
    assert "run" not in result.record()
    assert read_result(write_result(tmp_path, result)) == result
