"""Nobody reads the number of a free port and gives the port back: another program has it before it is bound again."""

import ast

from tests.arch.test_arch_imports import none_of, place, trees

FREE_PORTS = "keycast/free_ports.py has ports that no other program gets"


def is_call_of(node, *names, on=None):
    """Whether this is a call of a method with one of these names, on the variable `on` if that is given."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in names):
        return False
    return on is None or (isinstance(node.func.value, ast.Name) and node.func.value.id == on)


def reads_the_number(statement, name):
    return any(is_call_of(node, "getsockname", on=name) for node in ast.walk(statement))


def is_only_set_up(statement, name):
    """Whether this line does nothing with the socket that needs it to stay."""
    if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Name):
        return True  # of the number
    return isinstance(statement, ast.Expr) and is_call_of(statement.value, "bind", "setsockopt", "listen", on=name)


def hands_the_number_out(statement, name):
    return isinstance(statement, (ast.Assign, ast.AnnAssign, ast.Return)) and reads_the_number(statement, name)


def blocks(tree):
    """Every list of statements that follow one another."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            if isinstance(found := getattr(node, field, None), list):
                yield found


def probes(tree):
    """Where a socket is opened, read for its number and closed, and nothing else is done with it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            for item in node.items:
                if isinstance(item.optional_vars, ast.Name):
                    name = item.optional_vars.id
                    told = [hands_the_number_out(line, name) for line in node.body]
                    if any(told) and all(is_only_set_up(line, name) or told[i] for i, line in enumerate(node.body)):
                        yield node
    for block in blocks(tree):
        for before, line in enumerate(block):
            if (
                isinstance(line, ast.Expr)
                and is_call_of(line.value, "close")
                and isinstance(line.value.func.value, ast.Name)
            ):
                name = line.value.func.value.id
                told = [i for i in range(before) if hands_the_number_out(block[i], name)]
                if told and all(is_only_set_up(each, name) for each in block[told[0] + 1 : before]):
                    yield line


def test_nobody_probes_a_port_and_gives_it_back():
    none_of(f"{place(path, node)}: {FREE_PORTS}" for path, tree in trees().items() for node in probes(tree))


PROBES = (
    """
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
""",
    """
def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("", 0))
        return Gateway(port=int(free.getsockname()[1]))
""",
    """
def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
""",
    """
free = socket.socket()
free.bind(("127.0.0.1", 0))
port = free.getsockname()[1]
free.close()
""",
)
KEPT = (
    """
with socket.socket() as peer:
    peer.bind(("127.0.0.1", 0))
    port = peer.getsockname()[1]
    assert refused(port)
""",
    """
@pytest.fixture
def peer():
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        yield own.getsockname()[1]
""",
    """
peer = socket.socket()
peer.bind(("127.0.0.1", 0))
port = peer.getsockname()[1]
assert refused(port)
peer.close()
""",
)


def test_a_probe_is_told_from_a_socket_that_is_kept():
    for text in PROBES:
        assert len(list(probes(ast.parse(text)))) == 1, text
    for text in KEPT:
        assert not list(probes(ast.parse(text))), text
