"""Write docs/api.md, the API reference, from the docstrings of the public names.

    python scripts/api_page.py

Public is what ``__all__`` of kvdistill and of its folders names. The code is parsed and not imported, so the
page does not depend on installed packages.
"""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).resolve().parents[1] / "scripts" / "_reexec.py"))

import argparse
import ast
import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"
WIDTH = 100
HEAD = """# API reference

The public names of `kvdistill` and its folders, with signatures and docstrings. Written by `make api`; edit
the docstrings, not this page.
"""
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Definition(NamedTuple):
    """Where a public name is defined."""

    module: str
    node: Any
    doc: str


def main() -> int:
    """Write the page of this project, or of a copy of its sources."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, default=ROOT / "src", help="folder that holds kvdistill/")
    parser.add_argument("--output", type=Path, default=PAGE, help="the page (default: docs/api.md)")
    given = parser.parse_args()
    given.output.write_text(page(given.source), encoding="utf-8")
    print(f"Written: {given.output}")
    return 0


def page(source: Path) -> str:
    """The API reference as Markdown.

    Args:
        source: folder that holds the package ``kvdistill``.

    Returns:
        One section for each folder with ``__all__``, sorted by name.
    """
    parts = [HEAD]
    for file in sorted(source.glob("kvdistill/**/__init__.py")):
        module = ".".join(file.parent.relative_to(source).parts)
        tree = _parse(source, module)
        names = _public_names(tree)
        if not names:
            continue
        parts.append(f"## `{module}`\n\n{_first_paragraph(ast.get_docstring(tree) or '')}")
        for name in sorted(names, key=lambda name: (name.lower(), name)):
            parts.append(_entry(source, module, name))
    return "\n".join(part.rstrip() + "\n" for part in parts)


def _parse(source: Path, module: str) -> ast.Module:
    base = source.joinpath(*module.split("."))
    file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def _public_names(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _entry(source: Path, module: str, name: str) -> str:
    """The part of one public name; a name of another folder's ``__all__`` is a link to it."""
    found = find(source, module, name)
    if found is None:
        raise SystemExit(f"{module}: {name} is in __all__, but neither defined nor imported there")
    home = found.module.rpartition(".")[0]
    if home not in ("", module) and name in _public_names(_parse(source, home)):
        return f"### {name}\n\nSee [`{home}`](#{home.replace('.', '')}).\n"
    lines = [f"### {name}\n", _code(_signature(source, found, name)), _described(found.doc)]
    lines.append(f"Defined in `{found.module}`.\n")
    if isinstance(found.node, ast.ClassDef):
        lines += _members(source, found, found.node)
    return "\n".join(line for line in lines if line)


def find(source: Path, module: str, name: str) -> Definition | None:
    """The definition of a name, through any imports, those under ``TYPE_CHECKING`` included."""
    tree = _parse(source, module)
    for node, doc in _documented(tree.body):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and node.name == name:
            return Definition(module, node, ast.get_docstring(node) or "")
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and _target(node) == name:
            return Definition(module, node, doc)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "kvdistill":
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return find(source, str(node.module), alias.name)
    return None


def _documented(body: list[ast.stmt]) -> Iterator[tuple[ast.stmt, str]]:
    """Each statement with the docstring below it."""
    for node, below in zip(body, [*body[1:], None], strict=False):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        yield node, str(below.value.value) if is_text else ""


def _target(node: ast.Assign | ast.AnnAssign) -> str:
    return ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])


def _members(source: Path, found: Definition, owner: ast.ClassDef) -> list[str]:
    """Documented fields, then public methods with a docstring."""
    fields = [(_target(node), doc) for node, doc in _fields(source, found.module, owner) if doc]
    lines = ["".join(f"- `{name}`: {_first_paragraph(doc)}\n" for name, doc in fields)]
    for node in owner.body:
        doc = ast.get_docstring(node) if isinstance(node, FUNCTIONS) else None
        if doc and not node.name.startswith("_"):
            lines += [f"#### {owner.name}.{node.name}\n", _code(_call(node.name, node)), _described(doc)]
    return lines


def _fields(source: Path, module: str, owner: ast.ClassDef) -> list[tuple[ast.AnnAssign, str]]:
    """Annotated fields of a class and of its bases in this package, with their docstrings."""
    fields = {}
    for base in owner.bases:
        parent = find(source, module, ast.unparse(base))
        if parent is not None and isinstance(parent.node, ast.ClassDef):
            fields.update(
                {_target(node): (node, doc) for node, doc in _fields(source, parent.module, parent.node)}
            )
    for node, doc in _documented(owner.body):
        if isinstance(node, ast.AnnAssign) and "ClassVar" not in ast.unparse(node.annotation):
            fields[_target(node)] = (node, doc)
    return [field for name, field in fields.items() if not name.startswith("_")]


def _signature(source: Path, found: Definition, name: str) -> str:
    node = found.node
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        return f"{name} = {ast.unparse(node.value)}" if node.value is not None else name
    if not isinstance(node, ast.ClassDef):
        return _call(name, node)
    for method in node.body:
        if isinstance(method, FUNCTIONS) and method.name == "__init__":
            return _wrapped(f"class {name}", _parameters(method.args))
    fields = [ast.unparse(field) for field, _ in _fields(source, found.module, node)]
    if not fields:
        return f"class {name}"
    keywords = any("kw_only=True" in ast.unparse(decorator) for decorator in node.decorator_list)
    return _wrapped(f"class {name}", ["*", *fields] if keywords else fields)


def _call(name: str, node: ast.FunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    if "property" in [ast.unparse(decorator) for decorator in node.decorator_list]:
        return name + returns.replace(" -> ", ": ", 1)
    return _wrapped(name, _parameters(node.args), returns)


def _parameters(found: ast.arguments) -> list[str]:
    """Each parameter as it is written, without ``self``."""
    positional = [*found.posonlyargs, *found.args]
    defaults = [None] * (len(positional) - len(found.defaults)) + found.defaults
    shown = [_parameter(*pair) for pair in zip(positional, defaults, strict=True)]
    if found.posonlyargs:
        shown.insert(len(found.posonlyargs), "/")
    if found.vararg is not None:
        shown.append("*" + _parameter(found.vararg, None))
    elif found.kwonlyargs:
        shown.append("*")
    shown += [_parameter(*pair) for pair in zip(found.kwonlyargs, found.kw_defaults, strict=True)]
    if found.kwarg is not None:
        shown.append("**" + _parameter(found.kwarg, None))
    return shown[1:] if shown[:1] in (["self"], ["cls"]) else shown


def _parameter(parameter: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(parameter)
    if default is None:
        return text
    return f"{text}{'=' if parameter.annotation is None else ' = '}{ast.unparse(default)}"


def _wrapped(name: str, parameters: list[str], returns: str = "") -> str:
    line = f"{name}({', '.join(parameters)}){returns}"
    if len(line) <= WIDTH or not parameters:
        return line
    inner = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"{name}(\n{inner}){returns}"


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"


def _described(doc: str) -> str:
    """First paragraph, and the sections Args and Returns."""
    clean = inspect.cleandoc(doc)
    parts = [_first_paragraph(clean) + "\n"] if clean else []
    for title, body in re.findall(r"^(Args|Returns):\n((?:[ ]+.*\n?|\n)+)", clean, flags=re.MULTILINE):
        body = re.sub(r"\n +", " ", _plain(inspect.cleandoc("\n" + body)))
        if title == "Args":
            body = re.sub(r"^(\*{0,2}\w+)(?: \(.*?\))?: ", r"- `\1`: ", body, flags=re.MULTILINE)
        parts.append(f"{title}:\n\n{body}\n")
    return "\n".join(parts)


def _first_paragraph(doc: str) -> str:
    """On one line, so that no line of it begins as a list does."""
    return _plain(" ".join(inspect.cleandoc(doc).partition("\n\n")[0].split()))


def _plain(text: str) -> str:
    return text.replace("``", "`")


if __name__ == "__main__":
    raise SystemExit(main())
