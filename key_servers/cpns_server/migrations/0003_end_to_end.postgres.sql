CREATE FUNCTION trust_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.trust <> old.trust THEN
        RAISE EXCEPTION 'the trust of a name would change' USING ERRCODE = 'KC001';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER trust_stays BEFORE UPDATE ON groups FOR EACH ROW EXECUTE FUNCTION trust_stays();
