-- What this node holds, was told and has yet to tell. One row per fact; the file is the agent's alone.

-- The node that this ledger belongs to, the cookie to show at the next link, and the last sequence given to a report.
CREATE TABLE meta (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    node TEXT NOT NULL,
    cookie BLOB,
    reported INTEGER NOT NULL DEFAULT 0
) STRICT;

-- A session: what was last assigned (wire bytes; none: nothing is wanted of it, it is kept), and what is here.
CREATE TABLE sessions (
    session TEXT PRIMARY KEY,
    assignment BLOB,
    generation INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    site TEXT NOT NULL CHECK (site IN ('nothing', 'making', 'made', 'removing', 'removed')),
    run_state TEXT NOT NULL CHECK (run_state IN ('none', 'starting', 'live', 'ended')),
    run TEXT,
    ordinal INTEGER,
    faulted INTEGER,
    path TEXT,
    branch TEXT,
    base_commit TEXT,
    CHECK ((run_state = 'none') = (run IS NULL) AND (run IS NULL) = (ordinal IS NULL)),
    CHECK ((path IS NULL) = (branch IS NULL) AND (path IS NULL) = (base_commit IS NULL))
) STRICT, WITHOUT ROWID;

-- A list of steps that was begun. Its rows stay as long as what it made; `back` is the fault that turned it round.
CREATE TABLE sagas (
    session TEXT NOT NULL,
    saga TEXT NOT NULL,
    data TEXT NOT NULL,
    back INTEGER NOT NULL DEFAULT 0 CHECK (back IN (0, 1, 2)),
    fault_code TEXT,
    fault_step TEXT,
    fault_text TEXT,
    fault_hint TEXT,
    fault_retryable INTEGER,
    PRIMARY KEY (session, saga)
) STRICT, WITHOUT ROWID;

-- A step is written here before its effect begins.
CREATE TABLE steps (
    session TEXT NOT NULL,
    saga TEXT NOT NULL,
    step TEXT NOT NULL,
    number INTEGER NOT NULL,
    mark TEXT NOT NULL CHECK (mark IN ('intended', 'made')),
    PRIMARY KEY (session, saga, step)
) STRICT, WITHOUT ROWID;

-- What the controller has not acknowledged yet. A session's progress is superseded by whatever follows it.
CREATE TABLE reports (
    sequence INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    progress INTEGER NOT NULL CHECK (progress IN (0, 1)),
    body BLOB NOT NULL
) STRICT;

CREATE INDEX progress_reports ON reports (session) WHERE progress = 1;
