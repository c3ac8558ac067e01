-- The last report that the controller said to be durable. It cannot be seen in what waits: a superseded progress leaves a gap.
ALTER TABLE meta ADD COLUMN acknowledged INTEGER NOT NULL DEFAULT 0;
