-- The first start of a server of our own, as its superuser. In: passwords. Out: roles and an empty database.

-- role_statement(name, password)
-- The statement that makes a login role which can do nothing else; passwords take no parameters in DDL.
SELECT format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOINHERIT PASSWORD %L', $1::text, $2::text)
WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1::text);

-- has_database(name)
-- Whether the database is there.
SELECT 1 FROM pg_database WHERE datname = $1;

-- create_database(...)
-- An empty database that the owner owns.
CREATE DATABASE {name} OWNER cm_owner;

-- create_database_like(...)
-- A copy of another; what tests start from.
CREATE DATABASE {name} TEMPLATE {template} OWNER cm_owner;
