-- Branches that a removal left because they were not merged, or checked out elsewhere: Drover's, to be deleted once nothing
-- is lost by it. Rows outlive their sessions.
CREATE TABLE kept_branches (
    session TEXT NOT NULL,
    common TEXT NOT NULL,
    branch TEXT NOT NULL,
    base_commit TEXT NOT NULL,
    PRIMARY KEY (session, common)
) STRICT, WITHOUT ROWID;
