CREATE TABLE visitor_segments (
    name     text PRIMARY KEY,
    greeting text NOT NULL CHECK (greeting <> '')
);

INSERT INTO visitor_segments (name, greeting) VALUES
    ('new', 'Welcome'),
    ('returning', 'Welcome back');

ALTER TABLE customers ADD COLUMN segment text NOT NULL DEFAULT 'new' REFERENCES visitor_segments;

UPDATE customers SET segment = 'returning'
WHERE id IN (SELECT customer_id FROM orders WHERE state <> 'cancelled' GROUP BY customer_id HAVING count(*) > 1);
