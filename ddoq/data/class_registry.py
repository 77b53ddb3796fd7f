"""The one authority on class order: index, key (folder or WordNet id), name and prompt of every class."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from ddoq.errors import UserError
from ddoq.escaping import has_surrogate
from ddoq.storage.fingerprints import hash_config


@dataclass(frozen=True)
class ClassInfo:
    """One class of a dataset.

    Attributes:
        index: The label that stands for it in tensors.
        key: The folder name, WordNet id or ClassLabel name it has in the source.
        name: What people call it.
        prompt: What a text-to-image model is told.
    """

    index: int
    key: str
    name: str
    prompt: str


class ClassRegistry(Sequence[ClassInfo]):
    """All classes of a dataset, in label order.

    Label-order mistakes are the most common cause of failed reproductions in this field, so every part that
    needs a class name, a folder or a prompt asks this object and nothing else.

    Args:
        keys: Folder names, WordNet ids or ClassLabel names, in label order.
        names: Readable names; the keys where omitted.
        prompts: Text prompts; the names where omitted.
        unnamed: The same classes as they would be called if nobody had named them; None where nobody has. What people
            call a class decides no number, so that the fingerprint is taken of these.

    Raises:
        UserError: If there is no class, if lengths differ, if two classes share a key, or if a text is not UTF-8.

    Example:
        >>> registry = ClassRegistry(["n02007558", "n03126707"], names=["crane bird", "crane machine"])
        >>> registry.index_of("n03126707")
        1
    """

    def __init__(
        self,
        keys: Sequence[str],
        names: Sequence[str] | None = None,
        prompts: Sequence[str] | None = None,
        unnamed: "ClassRegistry | None" = None,
    ) -> None:
        names = keys if names is None else names
        prompts = names if prompts is None else prompts
        if not keys:
            raise UserError("A dataset needs at least one class.")
        for what, values in (("names", names), ("prompts", prompts)):
            if len(values) != len(keys):
                raise UserError(f"{len(keys)} classes, but {len(values)} class {what}.")
        odd = [text for text in (*keys, *names, *prompts) if has_surrogate(text)]
        if odd:
            raise UserError(f"The name or prompt {odd[0]!a} of a class is not UTF-8.")
        self._index = {key: index for index, key in enumerate(keys)}
        if len(self._index) != len(keys):
            twice = sorted(key for key, count in Counter(keys).items() if count > 1)
            raise UserError(
                f"Classes must have distinct keys; these appear twice: {', '.join(twice)}."
            )
        self._unnamed = unnamed
        rows = zip(keys, names, prompts, strict=True)
        self._classes = [
            ClassInfo(i, key, name, prompt) for i, (key, name, prompt) in enumerate(rows)
        ]

    @overload
    def __getitem__(self, index: int) -> ClassInfo: ...

    @overload
    def __getitem__(self, index: slice) -> list[ClassInfo]: ...

    def __getitem__(self, index: int | slice) -> ClassInfo | list[ClassInfo]:
        """Return the class with this label."""
        return self._classes[index]

    def __len__(self) -> int:
        """Count the classes."""
        return len(self._classes)

    def __iter__(self) -> Iterator[ClassInfo]:
        """Iterate in label order."""
        return iter(self._classes)

    def index_of(self, key: str) -> int:
        """Return the label of a folder name, WordNet id or ClassLabel name.

        Raises:
            UserError: If no class has this key.
        """
        if key not in self._index:
            raise UserError(f"No class has the key {key!r}.")
        return self._index[key]

    @property
    def keys(self) -> list[str]:
        """Keys in label order."""
        return [item.key for item in self]

    @property
    def names(self) -> list[str]:
        """Names in label order."""
        return [item.name for item in self]

    @property
    def prompts(self) -> list[str]:
        """Prompts in label order."""
        return [item.prompt for item in self]

    def part(self, indices: Sequence[int]) -> "ClassRegistry":
        """Return some of the classes, numbered anew in the order given."""
        kept = [self._classes[index] for index in indices]
        return ClassRegistry(
            [item.key for item in kept],
            [item.name for item in kept],
            [item.prompt for item in kept],
            None if self._unnamed is None else self._unnamed.part(indices),
        )

    @property
    def fingerprint(self) -> str:
        """Hash of the keys in order, with the names and prompts that they have where a user gives none."""
        return hash_config(list(self if self._unnamed is None else self._unnamed))
