"""The errors of daynight. All have one base class, and each is also a built-in error, such as ValueError."""


class DaynightError(Exception):
    """Base class of all errors that daynight raises.

    The message names the argument, the rule, the value received and the next step. A note below the traceback names
    the page of the documentation that helps.

    Attributes:
        page: Name of that page of the documentation.
    """

    page = "troubles"

    def __init__(self, *args: object, page: str | None = None) -> None:
        super().__init__(*args)
        self.page = page or self.page
        self.__notes__ = [self.more]

    @property
    def more(self) -> str:
        """Note on where to read more."""
        return f"More: docs/{self.page}.rst of daynight."


class SettingError(DaynightError, ValueError):
    """A setting is not valid."""


class PolicyError(DaynightError, ValueError):
    """A sleep policy broke a rule of the night."""

    page = "policies"


class ReactivePolicyError(PolicyError):
    """A policy that reacts to measurements during the night was asked for a plan."""


class CapacityError(DaynightError, RuntimeError):
    """The network has no free weights for a task."""


class NetworkError(DaynightError, TypeError):
    """A network contains a part that daynight cannot mask, keep per task or freeze."""

    page = "networks"


class DataError(DaynightError, ValueError):
    """The examples of a task are not valid."""

    page = "data"


class DataNotFoundError(DaynightError, FileNotFoundError):
    """A data set or file was not found."""

    page = "data"


class DamagedFileError(DaynightError, ValueError):
    """A file is damaged, has another kind of content, or was written by a newer version."""

    page = "files"


class SealError(DaynightError, RuntimeError):
    """Numbers that a finished task's predictions use have changed."""

    page = "files"


class StateError(DaynightError, RuntimeError):
    """A method was called in the wrong phase of the day, or while another thread trains the agent."""


class TrainingError(DaynightError, RuntimeError):
    """Training failed, for example with a loss that is not finite."""


class StudyError(DaynightError, RuntimeError):
    """Runs of a study have failed."""

    page = "studies"


class ExportError(DaynightError, RuntimeError):
    """A network cannot be exported, or the exported network has different outputs."""

    page = "files"


class OutputError(DaynightError, OSError):
    """A file or folder cannot be written."""


class MissingPackageError(DaynightError, ImportError):
    """A package that a feature needs is not installed."""
