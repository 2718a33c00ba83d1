--
-- PostgreSQL database cluster dump
--

\restrict KeiG5ReqQiMPcHTcVdHF7IkMCyCYmvk6gbJmvXQcHbDsDsLDU1f8kWrG95IT88N

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








\unrestrict KeiG5ReqQiMPcHTcVdHF7IkMCyCYmvk6gbJmvXQcHbDsDsLDU1f8kWrG95IT88N

--
-- PostgreSQL database cluster dump complete
--

