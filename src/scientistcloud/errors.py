"""Every error that ScientistCloud raises on purpose.

::

    ScientistCloudError
    ├── CallersMistake            the caller can mend it; exit status 2, HTTP 4xx
    │   ├── InvalidParameters     a value that cannot be accepted
    │   ├── InvalidSettings       a setting, a path or a port that cannot be used
    │   ├── NotFound              no such job, data set, upload …, or not for this caller
    │   ├── NotLoggedIn           nobody has said who asks; HTTP 401
    │   ├── Forbidden             the request came from elsewhere than our own pages; HTTP 403
    │   ├── IdempotencyConflict   the key is in use for another data set or job type
    │   ├── InvalidTransition     the state does not allow it
    │   │   └── AlreadyFinished   … because it has ended
    │   └── TooMuch               a limit that is a setting
    │       ├── QueueFull         the data set's line is full
    │       ├── TooMany           open uploads
    │       └── TooLarge          an upload beyond a limit or quota
    ├── Transient                 passes by itself or by the operator's hand; retried with a pause
    │   ├── Unavailable           the database or the server does not answer
    │   ├── Stale                 the record changed since it was read; read it and try again
    │   └── NoSpace               the disk is full or at its reserve
    ├── LeaseLost                 the job belongs to another attempt now; stop and change nothing
    ├── Cancelled                 somebody asked for the job to end; stop and acknowledge
    ├── SourceError               the source files; permanent, a retry would find the same
    │   ├── UnreadableSource      damaged, cut off, or not what it says
    │   ├── UnsupportedSource     sound, but nothing here makes a picture of it
    │   └── UnsafeSource          names a file outside its own data set
    ├── IncompatibleInstallation  the database or data folder is of another version or installation
    └── BrokenPlugin              an installed package offers something that does not load

Each message is one line that a scientist can act on: what happened, to what, and what to do.
"""

from __future__ import annotations


class ScientistCloudError(Exception):
    """The root of the tree."""


class CallersMistake(ScientistCloudError):
    """The request cannot be met as it stands; the caller can mend it."""


class InvalidParameters(CallersMistake):
    """A value that cannot be accepted: wrong type, out of range, or naming a person."""


class InvalidSettings(CallersMistake):
    """A setting, path or port that cannot be used, and what would do."""


class NotFound(CallersMistake):
    """There is none of that name, or none that this caller may see."""


class NotLoggedIn(CallersMistake):
    """No token and no session came with the request, or none that holds here."""


class Forbidden(CallersMistake):
    """Known who asks, but not in this way: a request forged by another site, a wrong host name."""


class IdempotencyConflict(CallersMistake):
    """The idempotency key already stands for a job of another data set or type."""


class InvalidTransition(CallersMistake):
    """The state of the job, data set or upload does not allow this."""


class AlreadyFinished(InvalidTransition):
    """It has ended; an end is never overwritten."""


class TooMuch(CallersMistake):
    """A limit that is a setting would be exceeded."""


class QueueFull(TooMuch):
    """The data set has as many unfinished jobs as `MAX_PENDING_PER_DATASET` allows."""


class TooMany(TooMuch):
    """More open uploads than one person may have at a time."""


class TooLarge(TooMuch):
    """More bytes than a limit, a quota or the declared length allows."""


class Transient(ScientistCloudError):
    """Likely to pass; the same request may succeed later."""


class Unavailable(Transient):
    """The database or server does not answer. It never means that something is empty."""


class Stale(Transient):
    """The record was changed by another since it was read; read it again and decide anew."""


class NoSpace(Transient):
    """The disk is full, or what is kept free of it would be touched."""


class LeaseLost(ScientistCloudError):
    """The job was given to another attempt, or ended; this attempt must change nothing more."""


class Cancelled(ScientistCloudError):
    """The end of the job was asked for."""


class SourceError(ScientistCloudError):
    """The source files cannot be converted; another attempt would find the same."""


class UnreadableSource(SourceError):
    """The file is damaged, cut off, or not what it says."""


class UnsupportedSource(SourceError):
    """The file is sound, but holds nothing that can be shown as an image here."""


class UnsafeSource(SourceError):
    """The file names another one outside its data set."""


class IncompatibleInstallation(ScientistCloudError):
    """The database or the data folder is newer, foreign, or no such thing at all."""


class BrokenPlugin(ScientistCloudError):
    """An installed distribution offers an entry point that cannot be used."""
