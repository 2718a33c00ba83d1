ALTER TABLE white_papers ADD COLUMN topic text;

UPDATE white_papers SET topic = coalesce(lower(substring(title FROM ': (.*)$')), 'other');

ALTER TABLE white_papers ALTER COLUMN topic SET DEFAULT 'other', ALTER COLUMN topic SET NOT NULL;

CREATE INDEX white_papers_by_topic ON white_papers (topic);
