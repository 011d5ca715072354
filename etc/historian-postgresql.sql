-- Samples and outcomes in PostgreSQL: psql -d flux -f historian-postgresql.sql
--
-- historian.md tells how messages come here. One that comes twice is taken once: a sample is
-- named by site, device, run and seq, whether it comes as state or as backfill.

CREATE TABLE IF NOT EXISTS flux_sample (
    site text NOT NULL,
    device text NOT NULL,
    run text NOT NULL,
    seq bigint NOT NULL,
    ts timestamptz NOT NULL,
    quality text NOT NULL,
    data jsonb NOT NULL,
    errors jsonb,
    PRIMARY KEY (site, device, run, seq)
);
CREATE INDEX IF NOT EXISTS flux_sample_ts ON flux_sample (site, device, ts);

CREATE TABLE IF NOT EXISTS flux_outcome (
    site text NOT NULL,
    device text NOT NULL,
    ts timestamptz NOT NULL,
    id text,
    point text NOT NULL,
    value double precision,
    outcome text NOT NULL,
    reason text,
    readback double precision,
    source text,
    correction boolean NOT NULL,
    UNIQUE (site, device, ts, id, point, outcome)
);

-- Takes a message of <prefix>/<site>/<device>/state, backfill or result.
CREATE OR REPLACE FUNCTION flux_take(topic text, payload jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO flux_sample
    SELECT split_part(topic, '/', 2), split_part(topic, '/', 3), payload->>'run',
           (payload->>'seq')::bigint, to_timestamp((payload->>'ts')::bigint / 1000.0),
           payload->>'quality', payload->'data', payload->'errors'
    WHERE split_part(topic, '/', 4) IN ('state', 'backfill')
    ON CONFLICT DO NOTHING;

    INSERT INTO flux_outcome
    SELECT split_part(topic, '/', 2), split_part(topic, '/', 3),
           to_timestamp((payload->>'ts')::bigint / 1000.0), payload->>'id', payload->>'point',
           (payload->>'value')::double precision, payload->>'outcome', payload->>'reason',
           (payload->>'readback')::double precision, payload->>'source',
           coalesce((payload->>'correction')::boolean, false)
    WHERE split_part(topic, '/', 4) = 'result' AND NOT payload ? 'duplicate'
    ON CONFLICT DO NOTHING;
$$;
