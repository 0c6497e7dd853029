"""The errors that end a script. Their text is what the user sees: what is wrong, and what to do."""


class Failure(Exception):
    """The script cannot go on."""

    status = 1
    """The exit status of the script."""


class BadSetting(Failure):
    """A setting that cannot be used. The text names the variable, its value and what is allowed."""

    status = 2


class JavaMissing(Failure):
    """There is no Java that Spark and Kafka run on. The text says how to install one."""
