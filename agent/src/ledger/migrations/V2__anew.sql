-- Which making of the workspace this is, and what the live run's supervisor was told of added time.
ALTER TABLE sessions ADD COLUMN rebuild INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN granted_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN grants INTEGER NOT NULL DEFAULT 0;

-- Common directories of repositories that workspaces were made in: where saved work may lie.
CREATE TABLE repositories (
    common TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
