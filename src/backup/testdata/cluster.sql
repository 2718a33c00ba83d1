--
-- PostgreSQL database cluster dump
--

\restrict J4SEoBXQg7Jaa5MShVgEA5UUfBSGESFBdAZWXUwSE4ygtF5dKZTvEDQQUbactYq

SET default_transaction_read_only = off;

SET client_encoding = 'SQL_ASCII';
SET standard_conforming_strings = on;

--
-- Roles
--

CREATE ROLE clerk;
ALTER ROLE clerk WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS;
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER INHERIT CREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS;

--
-- User Configurations
--








\unrestrict J4SEoBXQg7Jaa5MShVgEA5UUfBSGESFBdAZWXUwSE4ygtF5dKZTvEDQQUbactYq

--
-- Databases
--

--
-- Database "template1" dump
--

\connect template1

--
-- PostgreSQL database dump
--

\restrict mJUfgffVZg8PzZhb9PKud19aGe3vzGK1wYyO622mRzfwNbkH4vtmGjSeJ5onxgm

-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'SQL_ASCII';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- PostgreSQL database dump complete
--

\unrestrict mJUfgffVZg8PzZhb9PKud19aGe3vzGK1wYyO622mRzfwNbkH4vtmGjSeJ5onxgm

--
-- Database "postgres" dump
--

\connect postgres

--
-- PostgreSQL database dump
--

\restrict D4ocNKTrqIpkwpAlw1gyhLncICQjcdRfIgeaP7HPOFWhyPGC5ffOkHOe3wXkT7f

-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'SQL_ASCII';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- PostgreSQL database dump complete
--

\unrestrict D4ocNKTrqIpkwpAlw1gyhLncICQjcdRfIgeaP7HPOFWhyPGC5ffOkHOe3wXkT7f

--
-- Database "shop" dump
--

--
-- PostgreSQL database dump
--

\restrict h2SlfpkzzYaCFYx0WbqsqKnGoBCoPTELjO2vs6CxXHeSZWne4WK0MKQOqZC6NPs

-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'SQL_ASCII';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: shop; Type: DATABASE; Schema: -; Owner: postgres
--

CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'SQL_ASCII' LOCALE_PROVIDER = libc LOCALE = 'C';


ALTER DATABASE shop OWNER TO postgres;

\unrestrict h2SlfpkzzYaCFYx0WbqsqKnGoBCoPTELjO2vs6CxXHeSZWne4WK0MKQOqZC6NPs
\connect shop
\restrict h2SlfpkzzYaCFYx0WbqsqKnGoBCoPTELjO2vs6CxXHeSZWne4WK0MKQOqZC6NPs

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'SQL_ASCII';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: empty; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.empty (
    i integer
);


ALTER TABLE public.empty OWNER TO postgres;

--
-- Name: goods; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.goods (
    id integer NOT NULL,
    name text
);


ALTER TABLE public.goods OWNER TO postgres;

--
-- Name: odd; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.odd (
    t text
);


ALTER TABLE public.odd OWNER TO postgres;

--
-- Name: 16401; Type: BLOB; Schema: -; Owner: postgres
--

SELECT pg_catalog.lo_create('16401');


ALTER LARGE OBJECT 16401 OWNER TO postgres;

--
-- Data for Name: empty; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.empty (i) FROM stdin;
\.


--
-- Data for Name: goods; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.goods (id, name) FROM stdin;
1	a
2	b
\.


--
-- Data for Name: odd; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.odd (t) FROM stdin;

x
\.


--
-- Data for Name: BLOBS; Type: BLOBS; Schema: -; Owner: -
--

BEGIN;

SELECT pg_catalog.lo_open('16401', 131072);
SELECT pg_catalog.lowrite(0, '\x68656c6c6f');
SELECT pg_catalog.lo_close(0);

COMMIT;

--
-- Name: goods goods_pkey; Type: CONSTRAINT; Schema: public; Owner: postgres
--

ALTER TABLE ONLY public.goods
    ADD CONSTRAINT goods_pkey PRIMARY KEY (id);


--
-- PostgreSQL database dump complete
--

\unrestrict h2SlfpkzzYaCFYx0WbqsqKnGoBCoPTELjO2vs6CxXHeSZWne4WK0MKQOqZC6NPs

--
-- PostgreSQL database cluster dump complete
--

