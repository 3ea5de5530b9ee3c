"""The errors of daynight: one root, with leaves that also are the built-in one would expect."""


class DaynightError(Exception):
    """Root of every error that daynight raises on purpose.

    It says what, which rule, and what to do; under a traceback stands the page of the documentation that helps.

    Attributes:
        page: That page's name.
    """

    page = "troubles"

    def __init__(self, *args: object, page: str | None = None) -> None:
        super().__init__(*args)
        self.page = page or self.page
        self.__notes__ = [self.more]

    @property
    def more(self) -> str:
        """Where more is said."""
        return f"More: docs/{self.page}.rst of daynight."


class SettingError(DaynightError, ValueError):
    """A setting is outside what it may be."""


class PolicyError(DaynightError, ValueError):
    """A sleep policy broke a rule of the night."""

    page = "policies"


class ReactivePolicyError(PolicyError):
    """A plan was asked of a policy that reacts to what is measured during the night."""


class CapacityError(DaynightError, RuntimeError):
    """The network has no weights left to give to a task."""


class NetworkError(DaynightError, TypeError):
    """A network holds something that daynight cannot mask, keep per task or freeze."""

    page = "networks"


class DataError(DaynightError, ValueError):
    """The examples of a task do not fit the rules."""

    page = "data"


class DataNotFoundError(DaynightError, FileNotFoundError):
    """A data set is in none of the places where it may be."""

    page = "data"


class DamagedFileError(DaynightError, ValueError):
    """A file is damaged, of another kind, or by a newer version."""

    page = "files"


class SealError(DaynightError, RuntimeError):
    """Something has moved that a finished task's predictions use."""

    page = "files"


class StateError(DaynightError, RuntimeError):
    """A call came at a time of the day when it has no meaning."""


class TrainingError(DaynightError, RuntimeError):
    """Training went wrong, for example with a loss that is not finite."""


class StudyError(DaynightError, RuntimeError):
    """Runs of a study have failed."""

    page = "studies"


class ExportError(DaynightError, RuntimeError):
    """What was exported does not compute what the agent does, or cannot be exported."""

    page = "files"


class OutputError(DaynightError, OSError):
    """A file or folder cannot be written."""


class MissingPackageError(DaynightError, ImportError):
    """A feature needs a package of an extra that is not installed."""
