-- Tables hold the state, the change log holds the history. Records are messages of drover.store.v1.

CREATE TABLE meta (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    installation TEXT NOT NULL,
    generation INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

-- The key is the revision of the session's birth: rows are appended, which keeps commits cheap.
CREATE TABLE sessions (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    node TEXT,
    forgotten INTEGER NOT NULL DEFAULT 0 CHECK (forgotten IN (0, 1)),
    record BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX session_names ON sessions (project, name) WHERE state <> 'cleaned';

-- What never changes of a session.
CREATE TABLE specs (number INTEGER PRIMARY KEY, spec BLOB NOT NULL) STRICT;

-- Gone as soon as the session is cleaned; in no log.
CREATE TABLE secrets (number INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;

-- `acknowledged` moves with every report and is therefore not in the record.
CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    standing TEXT NOT NULL,
    acknowledged INTEGER NOT NULL,
    record BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (id TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE changes (
    revision INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    session INTEGER,
    node TEXT,
    record BLOB
) STRICT;

CREATE INDEX changes_of_sessions ON changes (session, revision) WHERE session IS NOT NULL;

-- Answers to calls with a request id, in the order they were given.
CREATE TABLE answers (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    principal TEXT NOT NULL,
    method TEXT NOT NULL,
    request TEXT NOT NULL,
    payload BLOB NOT NULL,
    answer BLOB NOT NULL
) STRICT;
