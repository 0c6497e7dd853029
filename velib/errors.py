"""The errors that end a script. Their text is what the user sees: what is wrong, and what to do."""


class Failure(Exception):
    """The script cannot go on."""

    status = 1
    """The exit status of the script."""


class JavaMissing(Failure):
    """There is no Java that Spark and Kafka run on. The text says how to install one."""
