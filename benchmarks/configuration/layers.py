"""Layered configurations: a YAML file may name others that it extends."""

from pathlib import Path

import yaml

from ddoq.errors import UserError

_RESET = ["--students=[]"]


def expand(arguments: list[str]) -> list[str]:
    """Put the files that configurations extend before them, and let later students replace earlier ones.

    A file with ``extends: [parts/dataset.yaml]`` (paths relative to itself) stands for these files, in order,
    followed by itself; later files win. What comes out is what a user could have typed with several
    ``--config``.

    Of two lists of equal length the parser would merge the entries: the second student would inherit, say, the stem of
    the first one. An empty list is put between them.

    Args:
        arguments: Command-line arguments.

    Returns:
        The same with every ``--config FILE`` replaced by the files it stands for, and ``--students=[]`` before students
        that replace others.

    Raises:
        UserError: If a file is missing, is no YAML mapping, or extends itself.
    """
    expanded: list[str] = []
    rest = iter(arguments)
    named = False
    for argument in rest:
        flag, _, value = argument.partition("=")
        if flag not in ("--config", "-c"):
            if flag == "--students":
                expanded += _RESET if named else []
                named = True
            expanded.append(argument)
            continue
        path = value or next(rest, "")
        for file in resolve(Path(path)):
            if "students" in yaml.safe_load(file.read_text(encoding="utf-8")):
                expanded += _RESET if named else []
                named = True
            expanded += ["--config", str(file)]
    return expanded


def resolve(path: Path, parents: tuple[Path, ...] = ()) -> list[Path]:
    """List the files that a configuration stands for, in the order in which they are read.

    Args:
        path: A YAML file.
        parents: The files that led here.

    Returns:
        The files, ``path`` last, each once.

    Raises:
        UserError: As :func:`expand`.
    """
    if path.resolve() in parents:
        raise UserError(f"{path} extends itself.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        by = f" (named by {parents[-1]})" if parents else ""
        raise UserError(f"The configuration {path} does not exist{by}.") from None
    except IsADirectoryError:
        raise UserError(f"The configuration {path} is a folder; name a YAML file.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold keys and values, like `data: ...`.")
    bases = content.get("extends") or []
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise UserError(f"`extends` in {path} must be a list of file names.")
    files: list[Path] = []
    for base in bases:
        found = resolve(path.parent / base, (*parents, path.resolve()))
        files += [file for file in found if file not in files]
    return [*files, path]
