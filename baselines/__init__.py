"""The other methods, one folder each; every folder is imported so that YAML can name its classes."""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
