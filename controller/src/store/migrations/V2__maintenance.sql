-- What was planned and how far it was carried out, where new work is refused, and what the log says in words.

CREATE TABLE plans (id TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;

-- An empty node is everywhere.
CREATE TABLE safe_modes (node TEXT PRIMARY KEY, record BLOB NOT NULL) STRICT, WITHOUT ROWID;

ALTER TABLE changes ADD COLUMN note TEXT;
