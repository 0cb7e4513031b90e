"""The trees of all sources, which the tests of this folder share, leave the heap with the last of them: they are
millions of objects, and each full garbage collection of the tests that follow in this process would look at all."""

from tests.arch.test_arch_imports import trees


def pytest_runtest_teardown(item, nextitem):
    if nextitem is None or nextitem.path.parent != item.path.parent:
        trees.cache_clear()
