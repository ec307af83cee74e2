"""The table of tests: `@case` puts a function into it, `@case.each` one for every row of parameters."""

CASES = {}


class Case:
    def __init__(self, name, function, seconds, arguments, slow):
        self.name, self.function, self.seconds, self.arguments, self.slow = name, function, seconds, arguments, slow


def case(function=None, *, seconds=45, slow=False, rows=None, row=""):
    """Marks a test.  `rows` runs it once per tuple, with `row` (a format string) added to its name; `slow` starts it early."""

    def add(function):
        for values in rows or [()]:
            name = function.__name__ + ("_" + row.format(*values) if rows else "")
            assert name not in CASES, name
            CASES[name] = Case(name, function, seconds, values, slow)
        return function

    return add(function) if function else add
