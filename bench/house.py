"""Print how the package's source reads, in numbers: size and density of functions, comments, names, docstrings, rooms.

    python bench/house.py [--root src/mien] [--worst 10]

Every measure has a bar; a line says whether it is held. Exit code 1 when one is not.
"""

import argparse
import ast
import io
import re
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Words that say nothing of what a local variable holds.
EMPTY_WORDS = frozenset({"found", "one", "told", "each", "own", "here", "there", "wanted"})
# Nodes of the syntax tree in one statement; more must be read twice.
MOST_NODES = 60
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
SECTION = re.compile(
    r"^\s*(Args|Returns|Yields|Raises|Attributes|Example|Examples):$", re.MULTILINE
)


def body_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    """The statements of a function without its docstring."""
    return function.body[1:] if ast.get_docstring(function) is not None else function.body


def nodes_in(statements: list[ast.stmt]) -> int:
    """Nodes of the syntax tree, as `ast.walk` counts them."""
    return sum(1 for statement in statements for _ in ast.walk(statement))


def own_nodes(statement: ast.stmt) -> int:
    """Nodes of one statement without the statements inside it, such as the body of a loop."""
    count, pending = 0, [statement]
    while pending:
        node = pending.pop()
        count += 1
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.stmt):
                pending.append(child)
    return count


def heavy_statements(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """Line and size of each statement in a function that must be read twice.

    Tables of data stand outside functions, and layers of networks are called of ``nn``; neither is
    counted.
    """
    for function in ast.walk(tree):
        if not isinstance(function, FUNCTIONS):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.stmt) or isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                continue
            # A statement of a function inside this one is met again there.
            if own_nodes(node) > MOST_NODES and not mentions(node, "nn"):
                yield node.lineno, own_nodes(node)


def mentions(statement: ast.stmt, name: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(statement))


def lines_of(statements: list[ast.stmt]) -> int:
    if not statements:
        return 0
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1


def assigned_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def own_line_comments(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return sum(
        token.type == tokenize.COMMENT and token.line.strip().startswith("#") for token in tokens
    )


def public_definitions(
    tree: ast.Module,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Public functions, classes and methods, outside functions."""
    for node in tree.body:
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    inner
                    for inner in node.body
                    if isinstance(inner, FUNCTIONS) and not inner.name.startswith("_")
                )


def needs_sections(node: ast.AST) -> bool:
    """Whether a definition takes arguments or gives something back, so that a reader needs to be told of them."""
    if isinstance(node, FUNCTIONS):
        # The signatures of an overloaded function share the docstring of its implementation, and an
        # override has that of the method it overrides.
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        if decorators & {"overload", "override"}:
            return False
        # A command's arguments are described where they are declared; its docstring is its help.
        if "typer." in ast.unparse(node.args):
            return False
        # Nor a route's; its docstring is shown by the page of the API.
        if any(decorator.startswith("router.") for decorator in decorators):
            return False
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        takes = any(argument.arg not in {"self", "cls"} for argument in arguments)
        # What a property gives back is what its one sentence says.
        is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
        gives = node.returns is not None and ast.unparse(node.returns) != "None" and not is_property
        return takes or gives
    return False


def modules_below(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if "__pycache__" not in path.parts)


def import_circles(root: Path) -> list[list[str]]:
    """Groups of modules that import one another when they are imported, by Tarjan's algorithm."""
    paths = {module_name(path, root): path for path in modules_below(root)}
    edges = {
        name: sorted(imported_modules(path, set(paths)) - {name}) for name, path in paths.items()
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in edges[name]:
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            position = stack.index(name)
            if len(stack) - position > 1:
                circles.append(stack[position:])
            del stack[position:]

    for name in edges:
        if name not in index:
            visit(name)
    return circles


def module_name(path: Path, root: Path) -> str:
    name = ".".join(path.relative_to(root.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imported_modules(path: Path, known: set[str]) -> set[str]:
    """Modules of the package that a module imports at its top level."""
    imported = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= (whole & known) or ({node.module} & known)
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names} & known
    return imported


def percentile(values: list[int], share: float) -> int:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


@dataclass
class Count:
    """What was counted in all modules, and where what should not be there is."""

    lines: int = 0
    long_lines: int = 0
    comprehensions: int = 0
    comments: int = 0
    public: int = 0
    sizes: list[tuple[int, str]] = field(default_factory=list)
    densities: list[float] = field(default_factory=list)
    empty_words: list[str] = field(default_factory=list)
    without_sections: list[str] = field(default_factory=list)
    heavy: list[str] = field(default_factory=list)

    def add(self, path: Path, root: Path) -> None:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        place = str(path.relative_to(root))
        self.lines += len(text.splitlines())
        self.long_lines += sum(len(line) > 100 for line in text.splitlines())
        self.comprehensions += sum(isinstance(node, COMPREHENSIONS) for node in ast.walk(tree))
        self.comments += own_line_comments(text)
        self.empty_words += [
            f"{place}: {name}" for name in assigned_names(tree) if name in EMPTY_WORDS
        ]
        self.heavy += [
            f"{place}:{line} {nodes} nodes" for line, nodes in sorted(set(heavy_statements(tree)))
        ]
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS):
                self._add_function(node, place)
        for definition in public_definitions(tree):
            if needs_sections(definition):
                self.public += 1
                if not SECTION.search(ast.get_docstring(definition) or ""):
                    self.without_sections.append(f"{place}:{definition.lineno} {definition.name}")

    def _add_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef, place: str) -> None:
        statements = body_of(node)
        self.sizes.append((nodes_in(statements), f"{place}:{node.lineno} {node.name}"))
        if statements:
            self.densities.append(nodes_in(statements) / lines_of(statements))


def crowded_folders(root: Path) -> list[str]:
    counts = {
        folder: len(list(folder.glob("*.py")))
        for folder in {path.parent for path in modules_below(root)}
    }
    return [
        f"{folder.relative_to(root)} ({count})" for folder, count in counts.items() if count > 14
    ]


def report(root: Path, worst: int) -> bool:
    """Print every measure with its bar, then the ``worst`` places of those that have places; whether all bars are held."""
    count = Count()
    for path in modules_below(root):
        count.add(path, root)
    sizes = [size for size, _ in count.sizes]
    crowded, circles = crowded_folders(root), import_circles(root)
    measures = [
        ("AST nodes per function, median", statistics.median(sizes), 50),
        ("AST nodes per function, 90 %", percentile(sizes, 0.9), 190),
        ("AST nodes per function, 99 %", percentile(sizes, 0.99), 350),
        ("AST nodes per body line, median", round(statistics.median(count.densities), 1), 10),
        ("lines over 100 characters", count.long_lines, 0),
        ("comprehensions per 1,000 lines", round(1000 * count.comprehensions / count.lines, 1), 15),
        (
            "own-line comments per 1,000 lines, at least",
            round(1000 * count.comments / count.lines, 1),
            25,
        ),
        ("assignments to empty words", len(count.empty_words), 0),
        (f"statements of more than {MOST_NODES} AST nodes", len(count.heavy), 0),
        ("public docstrings without sections", len(count.without_sections), 0),
        ("folders with more than 14 modules", len(crowded), 0),
        ("import circles", len(circles), 0),
    ]
    modules = len(modules_below(root))
    print(
        f"{count.lines:,} lines in {modules} modules, {len(sizes):,} functions, {count.public:,} public ones with sections due"
    )
    held = True
    for name, value, bar in measures:
        holds = value >= bar if "at least" in name else value <= bar
        held = held and holds
        print(f"{name:<46}{value:>10,}   bar {bar:>4}   {'held' if holds else 'NOT held'}")
    for title, places in (
        (
            "largest functions",
            [f"{size:>5} {place}" for size, place in sorted(count.sizes, reverse=True)],
        ),
        ("empty words", count.empty_words),
        ("heavy statements", count.heavy),
        ("docstrings without sections", count.without_sections),
        ("crowded folders", crowded),
        ("circles", [" ".join(circle) for circle in circles]),
    ):
        for place in places[:worst]:
            print(f"  {title}: {place}")
    return held


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1] / "src" / "mien")
    parser.add_argument(
        "--worst",
        type=int,
        default=0,
        help="how many places to list of each measure that has places",
    )
    arguments = parser.parse_args()
    return 0 if report(arguments.root, arguments.worst) else 1


if __name__ == "__main__":
    sys.exit(main())
