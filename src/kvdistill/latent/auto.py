"""Registration with transformers' auto classes, without importing transformers for it.

``import kvdistill`` has to stay fast, and ``AutoModel.from_pretrained(checkpoint)`` has to work after it. So
:class:`LatentConfig` is registered as soon as transformers' table of configurations exists, at once or right
after its module is imported, and the model class follows when a configuration is built: the auto classes read
the configuration first, and the model class needs libraries (peft) that may be half imported before then.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

TABLE = "transformers.models.auto.configuration_auto"
"""The module that holds transformers' table of configurations."""


def register_config() -> None:
    """Register the student's configuration now, or right after transformers' table has been imported."""
    if TABLE in sys.modules:
        import_module("kvdistill.latent.config")
    elif not any(isinstance(finder, AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, AfterImport())


def register_model() -> None:
    """Register the student's model class, which takes the modules of a complete student."""
    import_module("kvdistill.latent.reasoner")


class AfterImport(MetaPathFinder):
    """Finds nothing by itself; lets the table's own loader import ``kvdistill.latent.config`` as well."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The table's specification as the other finders give it, with the registration after its loading."""
        if fullname != TABLE:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_register(module: ModuleType) -> None:
            load(module)
            import_module("kvdistill.latent.config")

        spec.loader.exec_module = load_and_register  # pyright: ignore[reportAttributeAccessIssue]
        return spec
