-- Colonnade's own database is POSTGRES_DB; this one is Prefect's.
CREATE DATABASE prefect;
