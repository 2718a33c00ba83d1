"""One database connection a worker, kept between requests. Where it goes is up to libpq's own PG* variables."""

import psycopg2
import psycopg2.extras

_kept = None


def connection():
    """The kept connection, or a new one where the server has gone away since."""
    global _kept
    if _kept is not None:
        try:
            with _kept.cursor() as cursor:
                cursor.execute("SELECT 1")
            return _kept
        except psycopg2.Error:
            _kept.close()
    _kept = psycopg2.connect(connect_timeout=3, application_name="cms")
    return _kept


def rows(query, arguments=()):
    """All rows of a query, as dictionaries."""
    with connection().cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.execute(query, arguments)
        return cursor.fetchall()


def release(_error=None):
    """Ends what the request began. What was to stay has been committed by then."""
    if _kept is not None and not _kept.closed:
        _kept.rollback()
