--
-- PostgreSQL database dump
--

\restrict SqBRPPvWXCWbtG4ik2bguNDzGgQ898YHBGoWemxYCU9M1vfArbrzgt9rGlA895Q

-- Dumped from database version 15.18 (Debian 15.18-0+deb12u1)
-- Dumped by pg_dump version 15.18 (Debian 15.18-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: customer; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.customer (
    id integer NOT NULL,
    name text NOT NULL
);


ALTER TABLE public.customer OWNER TO postgres;

--
-- Name: invoice; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.invoice (
    id integer NOT NULL,
    customer integer,
    total numeric
);


ALTER TABLE public.invoice OWNER TO postgres;

--
-- Name: nothing; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.nothing (
    id integer
);


ALTER TABLE public.nothing OWNER TO postgres;

--
-- Name: 16407; Type: BLOB; Schema: -; Owner: postgres
--

SELECT pg_catalog.lo_create('16407');


ALTER LARGE OBJECT 16407 OWNER TO postgres;

--
-- Data for Name: customer; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.customer (id, name) FROM stdin;
1	customer 1
2	customer 2
3	customer 3
4	customer 4
5	customer 5
6	customer 6
7	customer 7
8	customer 8
9	customer 9
10	customer 10
11	customer 11
12	customer 12
13	customer 13
14	customer 14
15	customer 15
16	customer 16
17	customer 17
18	customer 18
19	customer 19
20	customer 20
21	customer 21
22	customer 22
23	customer 23
24	customer 24
25	customer 25
26	customer 26
27	customer 27
28	customer 28
29	customer 29
30	customer 30
31	customer 31
32	customer 32
33	customer 33
34	customer 34
35	customer 35
36	customer 36
37	customer 37
38	customer 38
39	customer 39
40	customer 40
\.


--
-- Data for Name: invoice; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.invoice (id, customer, total) FROM stdin;
1	2	1.5
2	3	3.0
3	4	4.5
4	5	6.0
5	6	7.5
6	7	9.0
7	8	10.5
8	9	12.0
9	10	13.5
10	11	15.0
11	12	16.5
12	13	18.0
13	14	19.5
14	15	21.0
15	16	22.5
16	17	24.0
17	18	25.5
18	19	27.0
19	20	28.5
20	21	30.0
21	22	31.5
22	23	33.0
23	24	34.5
24	25	36.0
25	26	37.5
26	27	39.0
27	28	40.5
28	29	42.0
29	30	43.5
30	31	45.0
31	32	46.5
32	33	48.0
33	34	49.5
34	35	51.0
35	36	52.5
36	37	54.0
37	38	55.5
38	39	57.0
39	40	58.5
40	1	60.0
41	2	61.5
42	3	63.0
43	4	64.5
44	5	66.0
45	6	67.5
46	7	69.0
47	8	70.5
48	9	72.0
49	10	73.5
50	11	75.0
51	12	76.5
52	13	78.0
53	14	79.5
54	15	81.0
55	16	82.5
56	17	84.0
57	18	85.5
58	19	87.0
59	20	88.5
60	21	90.0
61	22	91.5
62	23	93.0
63	24	94.5
64	25	96.0
65	26	97.5
66	27	99.0
67	28	100.5
68	29	102.0
69	30	103.5
70	31	105.0
71	32	106.5
72	33	108.0
73	34	109.5
74	35	111.0
75	36	112.5
76	37	114.0
77	38	115.5
78	39	117.0
79	40	118.5
80	1	120.0
81	2	121.5
82	3	123.0
83	4	124.5
84	5	126.0
85	6	127.5
86	7	129.0
87	8	130.5
88	9	132.0
89	10	133.5
90	11	135.0
91	12	136.5
92	13	138.0
93	14	139.5
94	15	141.0
95	16	142.5
96	17	144.0
97	18	145.5
98	19	147.0
99	20	148.5
100	21	150.0
101	22	151.5
102	23	153.0
103	24	154.5
104	25	156.0
105	26	157.5
106	27	159.0
107	28	160.5
108	29	162.0
109	30	163.5
110	31	165.0
111	32	166.5
112	33	168.0
113	34	169.5
114	35	171.0
115	36	172.5
116	37	174.0
117	38	175.5
118	39	177.0
119	40	178.5
120	1	180.0
\.


--
-- Data for Name: nothing; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.nothing (id) FROM stdin;
\.


--
-- Data for Name: BLOBS; Type: BLOBS; Schema: -; Owner: -
--

BEGIN;

SELECT pg_catalog.lo_open('16407', 131072);
SELECT pg_catalog.lowrite(0, '\x61206c61726765206f626a656374');
SELECT pg_catalog.lo_close(0);

COMMIT;

--
-- Name: customer customer_pkey; Type: CONSTRAINT; Schema: public; Owner: postgres
--

ALTER TABLE ONLY public.customer
    ADD CONSTRAINT customer_pkey PRIMARY KEY (id);


--
-- Name: invoice invoice_pkey; Type: CONSTRAINT; Schema: public; Owner: postgres
--

ALTER TABLE ONLY public.invoice
    ADD CONSTRAINT invoice_pkey PRIMARY KEY (id);


--
-- Name: invoice invoice_customer_fkey; Type: FK CONSTRAINT; Schema: public; Owner: postgres
--

ALTER TABLE ONLY public.invoice
    ADD CONSTRAINT invoice_customer_fkey FOREIGN KEY (customer) REFERENCES public.customer(id);


--
-- PostgreSQL database dump complete
--

\unrestrict SqBRPPvWXCWbtG4ik2bguNDzGgQ898YHBGoWemxYCU9M1vfArbrzgt9rGlA895Q

