"""A part gets the functions that it calls when it is made; none is assigned to one of its attributes afterwards."""

import ast

from tests.arch.test_arch_imports import none_of, place, relative, trees

ROOMS = ("gateway_agent/", "key_servers/", "message_plane/", "keycast/services/", "keycast/demo/")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_parts_get_what_they_call_when_they_are_made():
    none_of(functions_handed_over_late())


def functions_handed_over_late():
    nodes = [node for tree in trees().values() for node in ast.walk(tree)]
    bodies = [each for node in nodes if isinstance(node, ast.ClassDef) for each in node.body]
    methods = {each.name for each in bodies if isinstance(each, FUNCTIONS) and not each.decorator_list}
    fields = {ast.unparse(each.target) for each in bodies if isinstance(each, ast.AnnAssign)}
    stored = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    fields |= {node.attr for node in stored if isinstance(node.value, ast.Name) and node.value.id == "self"}
    for path, tree in trees().items():
        if not relative(path).startswith(ROOMS):
            continue
        of_module = {each.name for each in tree.body if isinstance(each, FUNCTIONS)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and is_function(node.value, methods - fields, of_module):
                for target in node.targets:
                    if isinstance(target, ast.Attribute) and ast.unparse(target.value) not in ("self", "cls"):
                        yield f"{place(path, node)}: {ast.unparse(target)} is handed {ast.unparse(node.value)} late"


def is_function(value, methods, of_module):
    if isinstance(value, ast.Attribute):
        return value.attr in methods
    return isinstance(value, ast.Lambda) or (isinstance(value, ast.Name) and value.id in of_module)
