import huggingface_hub
import pytest

from ddoq.errors import UserError
from ddoq.exchange import push


class FakeHub:
    """Takes the calls that would go over the network."""

    files: tuple[str, ...] = (".gitattributes",)
    failure: Exception | None = None
    calls: list

    def __init__(self) -> None:
        type(self).calls = []

    def create_repo(self, repo, **options):
        self.calls.append(("create", repo, options))
        return f"https://hub/datasets/{repo}"

    def list_repo_files(self, repo, **options):
        assert options == {"repo_type": "dataset"}
        return list(self.files)

    def upload_folder(self, **options):
        if self.failure:
            raise self.failure
        self.calls.append(("upload", options))


@pytest.fixture
def hub(monkeypatch):
    fake = type("Fake", (FakeHub,), {})
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    return fake


def test_a_new_repository_is_private(hub, tmp_path):
    assert push(tmp_path, "me/set") == "https://hub/datasets/me/set"
    create, upload = hub.calls
    assert create == (
        "create",
        "me/set",
        {"repo_type": "dataset", "private": True, "exist_ok": True},
    )
    assert upload[1]["folder_path"] == tmp_path
    assert upload[1]["repo_type"] == "dataset"
    assert "data/train-*.parquet" in upload[1]["delete_patterns"]


def test_public_on_request(hub, tmp_path):
    push(tmp_path, "me/set", public=True)
    assert hub.calls[0][2]["private"] is False


def test_an_earlier_export_is_replaced_but_nothing_else(hub, tmp_path):
    hub.files = (".gitattributes", "README.md", "metadata.json", "labels.csv")
    push(tmp_path, "me/set")
    hub.files = ("README.md", "train.csv")
    with pytest.raises(UserError, match=r"README\.md, train\.csv"):
        push(tmp_path, "me/set")
    assert [call[0] for call in hub.calls] == ["create"]


def test_refusals_of_the_hub_are_told(hub, tmp_path):
    hub.failure = RuntimeError("401 Unauthorized\nlong story")
    with pytest.raises(UserError, match=r"401 Unauthorized\).*hf auth login"):
        push(tmp_path, "me/set")


@pytest.mark.parametrize("name", ["set", "a/b/c", "me/", "me/se t", "me/..", "me/a--b"])
def test_wrong_names_are_refused_before_the_network(hub, tmp_path, name):
    hub.calls = None
    with pytest.raises(UserError, match="must read user/name"):
        push(tmp_path, name)
    assert hub.calls is None
