"""Lazy registration with transformers' auto classes (``AutoConfig``, ``AutoModel``).

``import kvdistill`` has to stay fast, and ``AutoModel.from_pretrained(checkpoint)`` has to work after it.
:class:`LatentConfig` is therefore registered when transformers' table of configurations is imported, or at
once where it already is. The model class is registered when a configuration is built: the auto classes read
the configuration first, and the model class needs libraries (peft) that may be half imported before then.
"""

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

TABLE = "transformers.models.auto.configuration_auto"
"""Module of transformers' table of configurations."""


def register_config() -> None:
    """Register the student's configuration now, or after transformers' table has been imported."""
    if TABLE in sys.modules:
        import_module("kvdistill.latent.config")
    elif not any(isinstance(finder, AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, AfterImport())


def register_model() -> None:
    """Register the student's model class; imports transformers' model code and peft."""
    import_module("kvdistill.latent.reasoner")


class AfterImport(MetaPathFinder):
    """Import hook: imports ``kvdistill.latent.config`` after :data:`TABLE` has been imported."""

    def find_spec(
        self, fullname: str, path: Iterable[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Module spec of :data:`TABLE` with the registration appended to its loading.

        Args:
            fullname: Name of the module to be imported.
            path: Not used; part of the interface of finders.
            target: Not used; part of the interface of finders.

        Returns:
            The spec that the other finders give; None for any other module.
        """
        if fullname != TABLE:
            return None
        sys.meta_path.remove(self)  # needed once, and the search below must not end here again
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_register(module: ModuleType) -> None:
            # The table first: registering writes into it.
            load(module)
            import_module("kvdistill.latent.config")

        spec.loader.exec_module = load_and_register  # pyright: ignore[reportAttributeAccessIssue]
        return spec
