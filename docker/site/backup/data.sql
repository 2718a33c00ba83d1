-- The same rows each time, but for their dates, which end at :as_of.

INSERT INTO customers (email, name, country, created_at)
SELECT 'customer' || n || '@example.com', 'Customer ' || n || CASE WHEN n % 97 = 0 THEN ' "Zoë" Müller & Söhne' ELSE '' END,
       (ARRAY['DE', 'FR', 'JP', 'US', 'BR'])[1 + n % 5], :'as_of'::timestamptz - make_interval(hours => 40000 - 8 * n)
FROM generate_series(1, 4000) AS n;

INSERT INTO products (sku, name, price)
SELECT 'EX-' || lpad(n::text, 4, '0'), (ARRAY['Pump', 'Valve', 'Seal', 'Gauge'])[1 + n % 4] || ' ' || n, 5 + (n * 37 % 9000) / 10.0
FROM generate_series(1, 240) AS n;

INSERT INTO orders (customer_id, placed_at, state)
SELECT 1 + (n * 7919) % 4000, :'as_of'::timestamptz - make_interval(mins => 25 * (20000 - n)),
       CASE WHEN n % 50 = 0 THEN 'cancelled' WHEN n > 19900 THEN 'open' WHEN n > 19500 THEN 'paid' ELSE 'shipped' END
FROM generate_series(1, 20000) AS n;

INSERT INTO order_lines (order_id, line, product_id, quantity, price)
SELECT o.id, l, p.id, 1 + (o.id * l) % 12, p.price
FROM orders o
CROSS JOIN LATERAL generate_series(1, 1 + o.id % 3) AS l
JOIN products p ON p.id = 1 + (o.id * 31 + l * 17) % 240;

INSERT INTO pages (slug, title, body, published)
SELECT 'guide-' || n, 'Guide ' || n, '<p>' || repeat('How to keep pump ' || n || ' running. ', 40) || '</p>', n % 10 <> 0
FROM generate_series(1, 60) AS n;
INSERT INTO pages (slug, title, body, published) VALUES
    ('terms', 'Terms of sale', '<p>Goods remain ours until they are paid for.</p>', true),
    ('about', 'About us', '<p>Forty years of pumps and vavles.</p>', true),
    ('careers', 'Careers', '<p>We look for a system administrator.</p>', true);

-- One paper for each file that make-backup.sh put into the uploads.
CREATE TEMPORARY TABLE uploaded (n integer, file text, size bigint, sha256 text);
\copy uploaded FROM pstdin
INSERT INTO white_papers (title, file, media_type, size, sha256, published_at)
SELECT 'White paper ' || n || ': ' || (ARRAY['Cavitation', 'Dry running', 'Seals', 'Noise'])[1 + n % 4], file,
       'text/plain', size, sha256, :'as_of'::timestamptz - make_interval(days => 320 - n)
FROM uploaded ORDER BY n;

ANALYZE;
