"""The import graph of a package, read from its sources: layers and cycles."""

import ast
from collections.abc import Iterator
from pathlib import Path

Graph = dict[str, set[str]]
"""Module -> modules that it imports, both by dotted name."""


def module_graph(package: Path) -> Graph:
    """Imports between the modules of a package, wherever they are in the file; imports for type checkers do
    not count.

    ``from package.folder import name`` is an import of the module ``package.folder.name`` where there is one,
    else of ``package.folder.__init__``.
    """
    files = {_module_name(package, path): path for path in sorted(package.rglob("*.py"))}
    graph: Graph = {}
    for name, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        targets = {_resolve(target, files) for target in _imported_names(tree, name)}
        graph[name] = {target for target in targets if target is not None and target != name}
    return graph


def first_level_graph(graph: Graph) -> Graph:
    """Imports between the folders and modules directly inside the package, without ``__init__`` and
    ``__main__``.
    """
    root = next(iter(graph)).split(".")[0]
    children = child_graph(graph, root)
    entry_points = {"__init__", "__main__"}
    return {name: targets - entry_points for name, targets in children.items() if name not in entry_points}


def child_graph(graph: Graph, folder: str) -> Graph:
    """Imports between the modules and subfolders directly inside a folder; a subfolder is one node."""
    depth = folder.count(".") + 1
    inside = {name for name in graph if name.startswith(f"{folder}.")}
    children: Graph = {name.split(".")[depth]: set() for name in inside}
    for name in inside:
        child = name.split(".")[depth]
        imported = {target.split(".")[depth] for target in graph[name] & inside}
        children[child] |= imported - {child}
    return children


def cycles(graph: Graph) -> list[str]:
    """The import cycles between siblings of each folder, as ``folder: child, child``."""
    folders = {name.rpartition(".")[0] for name in graph}
    return [
        f"{folder}: {', '.join(sorted(component))}"
        for folder in sorted(folders)
        for component in components(child_graph(graph, folder))
        if len(component) > 1
    ]


def components(graph: Graph) -> list[set[str]]:
    """Strongly connected components."""
    reachable = {name: _reachable(graph, name) for name in graph}
    found: list[set[str]] = []
    for name in graph:
        component = {other for other in reachable[name] if name in reachable[other]} | {name}
        if component not in found:
            found.append(component)
    return found


def longest_chain(graph: Graph) -> list[set[str]]:
    """The longest chain of components, importers first; a cycle counts as one."""
    groups = components(graph)
    chains: dict[int, list[set[str]]] = {}

    def chain(index: int) -> list[set[str]]:
        if index not in chains:
            imported = set().union(*(graph[name] for name in groups[index])) - groups[index]
            below = [chain(other) for other, group in enumerate(groups) if group & imported]
            chains[index] = [groups[index], *max(below, key=len, default=[])]
        return chains[index]

    return max((chain(index) for index in range(len(groups))), key=len, default=[])


def _module_name(package: Path, path: Path) -> str:
    return ".".join(path.relative_to(package.parent).with_suffix("").parts)


def _imported_names(tree: ast.AST, module: str) -> Iterator[str]:
    """Dotted names of all imports; of ``from a import b`` both parts in one."""
    for node in _run_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = module.split(".")[: -node.level]
                source = ".".join([*above, source] if source else above)
            for alias in node.names:
                yield f"{source}.{alias.name}"


def _run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that a running program can reach."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield from _run_nodes(statement)
        else:
            yield from _run_nodes(child)


def _resolve(name: str, files: dict[str, Path]) -> str | None:
    """The module that an import of ``name`` runs: the longest beginning of the name that is one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        prefix = ".".join(parts[:end])
        if prefix in files:
            return prefix
        if f"{prefix}.__init__" in files:
            return f"{prefix}.__init__"
    return None


def _reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for target in graph[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return found
